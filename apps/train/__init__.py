"""`rexnet-train`: train, fine-tune, and train with quantization in the loop."""
