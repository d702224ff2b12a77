"""Many independent trials: what is kept of them, and where they run."""
