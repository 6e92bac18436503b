"""The static pods of a control plane: upstream's flags, probes and mounts, as plain objects.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/#generate-static-pod-manifests-for-control-plane-components
"""
