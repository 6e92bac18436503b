"""The phases of init, join and reset: one file for each, and the tables that put them in order.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-init/#init-workflow
"""
