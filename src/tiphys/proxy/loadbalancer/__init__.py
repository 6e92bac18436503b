"""Addresses of Services of type LoadBalancer on the nodes' wire: each is announced by one node."""
