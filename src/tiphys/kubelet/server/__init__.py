"""The kubelet's own API: logs, exec, attach, port-forward, what runs, and how it is.

Source: https://kubernetes.io/docs/reference/node/kubelet-files/ and
https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/
"""
