"""Images and their preprocessing."""
