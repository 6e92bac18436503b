"""Clouds that the package knows; ``tiphys.cloud.registry`` has their names."""
