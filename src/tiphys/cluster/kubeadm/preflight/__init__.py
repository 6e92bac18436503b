"""Whether a machine is fit: checks with upstream's names, each of which gives warnings and errors.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/#preflight-checks
"""
