"""Admission: what may change or refuse a write after authorization and before the store. One plugin per file.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/
"""
