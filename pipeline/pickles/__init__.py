"""Pickles as checkpoints have them, read without unpickling."""
