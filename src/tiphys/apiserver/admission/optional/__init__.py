"""Admission plugins that are off unless ``--enable-admission-plugins`` names them.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/
"""
