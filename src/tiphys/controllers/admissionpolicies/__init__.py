"""The status of admission policies: what their expressions get wrong about the kinds that they are for.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#type-checking
"""
