"""Validation of the batch group, v1."""
