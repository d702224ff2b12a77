"""What is found by gradients; the only room here with torch."""
