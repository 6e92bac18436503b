"""APIs that other servers serve, as part of this one: what an APIService names a service for.

- ``services``: which groups and versions these are
- ``backends``: where a service is reached, and how
- ``proxying``: requests are carried on, with who calls in headers
- ``availability``: whether each can be had, as a condition of its APIService
- ``documents``: what each serves, for discovery and OpenAPI

Source: https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/apiserver-aggregation/
"""
