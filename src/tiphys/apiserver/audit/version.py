"""The version of the audit API: of the policy that is read, and of the events that are written.

Source: https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/
"""

API_VERSION = "audit.k8s.io/v1"
