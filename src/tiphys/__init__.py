"""Tiphys: Kubernetes, whole, in Python. API level v1.36."""

__version__ = "0.1.0"

KUBERNETES_VERSION = "v1.36.0"
"""The API level that the servers report at /version and in a node's status."""
