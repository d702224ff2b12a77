"""The latency gate: two files timed in turns."""
