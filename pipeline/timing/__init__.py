"""How long work takes: what every measurement of speed is made of, on a device too."""
