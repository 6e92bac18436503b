"""Validation of the admissionregistration.k8s.io group, v1."""
