"""Which messages are copies of one item."""
