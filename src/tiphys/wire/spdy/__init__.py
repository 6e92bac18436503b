"""SPDY/3.1, as kubectl exec, attach and port-forward speak it."""
