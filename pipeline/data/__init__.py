"""Images, labels, preprocessing."""
