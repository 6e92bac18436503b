"""The kubelet's own certificates: asking for them with a bootstrap token, and renewing them before they end.

Source: https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/
"""
