"""Load balancers without a cloud: an address of a pool that nodes announce, or the nodes' own addresses.

Source: https://kubernetes.io/docs/concepts/services-networking/service/#loadbalancer
"""
