"""Plugins of the scheduler that look at the volumes of a pod.

Source: https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins
"""
