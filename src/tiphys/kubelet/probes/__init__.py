"""Startup, readiness and liveness probes, and the requests that they and lifecycle hooks make."""
