"""The certificates and keys of a control plane, as kubeadm makes them.

Source: https://kubernetes.io/docs/setup/best-practices/certificates/
"""
