"""The kubeadm.k8s.io/v1beta4 documents: their fields, defaults and rules, as plain dicts.

Source: https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/
"""
