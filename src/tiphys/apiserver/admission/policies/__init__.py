"""Admission by policies of the API: which requests they are about, and what their expressions say.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""
