"""The network, and what checkpoints of it look like."""
