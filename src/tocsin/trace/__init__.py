"""Tracing how items spread between the groups of a message log."""
