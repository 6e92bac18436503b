"""Types and values of expressions over OpenAPI schemas.

Source: https://kubernetes.io/docs/reference/using-api/cel/
"""
