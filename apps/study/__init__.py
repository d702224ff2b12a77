"""`rexnet-study`: the family's table, rank studies, the channel search."""
