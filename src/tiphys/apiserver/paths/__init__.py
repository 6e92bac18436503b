"""Paths that name no API object: discovery, health, version, metrics, OpenAPI."""
