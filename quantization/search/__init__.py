"""What `--effort` does: what is tried, judged and kept."""
