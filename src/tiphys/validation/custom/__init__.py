"""Validation of custom resources: by the schema in their definition, with what holds for every object."""
