"""What the answers of two networks to the same images say: accuracy with its limits, what flipped, how much noise."""
