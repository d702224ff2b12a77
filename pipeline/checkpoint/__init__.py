"""Checkpoints as people have them: found, read without unpickling, and made a network of ours."""
