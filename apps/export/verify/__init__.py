"""`rexnet-export verify`: finished files proven again, or made again."""
