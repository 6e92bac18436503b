"""The node itself: what the machine is, how it is, and how the API server is told."""
