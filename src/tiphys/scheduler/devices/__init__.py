"""Dynamic resource allocation: which devices the claims of a pod get, if the pod goes to a node."""
