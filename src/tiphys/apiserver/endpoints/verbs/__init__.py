"""The verbs of the Kubernetes API, each in its own module.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""
