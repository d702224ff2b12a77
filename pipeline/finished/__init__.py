"""What a finished export is good for: further targets of its graph and its table, and being made again."""
