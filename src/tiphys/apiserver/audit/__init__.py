"""The audit log: who did what, and what the result was. A policy decides how much of each request is recorded.

Source: https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/
"""
