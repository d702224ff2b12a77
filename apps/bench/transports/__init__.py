"""How a bundle reaches a device and a result comes back."""
