"""Validation of the resource.k8s.io group, v1: devices, and claims for them."""
