"""Clusters that last: init, join and reset in phases, with kubeadm's files in kubeadm's places.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/
"""
