"""Bootstrap tokens: the signed cluster-info that joining nodes trust, and the removal of tokens past their time.

Source: https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
"""
