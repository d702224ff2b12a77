"""The page of an export: first screen, classes, quantization, the network."""
