"""The version of the audit API: of the policy that is read, and of the events that are written."""

API_VERSION = "audit.k8s.io/v1"
