"""Message logs: their columns, how they are read, and which rows are kept."""
