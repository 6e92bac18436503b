"""The node agent: runs the pods bound to its node by the container runtime interface and reports their status."""
