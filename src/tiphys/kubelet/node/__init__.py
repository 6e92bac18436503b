"""The node itself: the machine's facts, its health, and how both are reported to the API server."""
