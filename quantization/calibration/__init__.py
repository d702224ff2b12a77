"""Statistics of activations, and ranges from them."""
