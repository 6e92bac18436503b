"""Commands for clusters that last: what kubeadm does, each as a command of `tiphys`.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/
"""
