"""Command lines and what they print."""
