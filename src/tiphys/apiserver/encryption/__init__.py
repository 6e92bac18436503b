"""Encryption of what is kept in the store, in upstream's format, so that either server can read the other's store.

Source: https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/
"""
