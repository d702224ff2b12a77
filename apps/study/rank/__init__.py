"""How rank depends on what a layer does: random layers and trained networks."""
