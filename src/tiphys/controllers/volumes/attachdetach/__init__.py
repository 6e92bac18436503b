"""Attaches volumes to the nodes whose pods need them, and detaches them when no pod does."""
