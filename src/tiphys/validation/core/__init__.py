"""Validation of the core group, v1: one module per kind, or per part of a pod."""
