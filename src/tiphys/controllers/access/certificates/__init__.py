"""Certificate signing requests: approved for kubelets, signed for the well-known signers, and cleaned up.

Source: https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/
"""
