"""The scheduling framework: extension points, their data, and the runtime that calls plugins.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/ and KEP-624.
"""
