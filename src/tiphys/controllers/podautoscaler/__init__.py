"""The horizontal pod autoscaler: as many replicas as the metrics ask for, within bounds and not in haste.

Source: https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/
"""
