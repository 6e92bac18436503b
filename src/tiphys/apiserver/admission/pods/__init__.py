"""Admission plugins that look at pods and at what makes pods.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/
"""
