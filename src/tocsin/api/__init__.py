"""Typed functions behind every command: `scan`, `evaluate`, `fit`. Import them from `tocsin`."""
