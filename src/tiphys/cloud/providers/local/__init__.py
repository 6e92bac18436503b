"""This machine as a cloud: nodes in network namespaces, haproxy on addresses of a pool, disks that are files; and, for
clusters of ``tiphys up``, load balancers without a cloud: addresses that nodes announce, or the nodes' own.

Source: https://kubernetes.io/docs/concepts/services-networking/service/#loadbalancer
"""
