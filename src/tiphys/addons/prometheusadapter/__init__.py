"""Custom and external metrics for autoscalers, out of a Prometheus, by rules.

Source: https://github.com/kubernetes/metrics and the configuration of kubernetes-sigs/prometheus-adapter
"""
