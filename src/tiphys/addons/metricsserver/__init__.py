"""The metrics server: what nodes and containers use, from their kubelets, as the API ``metrics.k8s.io``.

Source: https://kubernetes.io/docs/tasks/debug/debug-cluster/resource-metrics-pipeline/
"""
