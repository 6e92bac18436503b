"""Validation of the apiextensions.k8s.io group, v1: CustomResourceDefinition and the schemas in it."""
