"""Authorization: who may do what. Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/"""
