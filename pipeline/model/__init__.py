"""The network itself: ReXNet and its backbone in torch, and the session that runs it."""
