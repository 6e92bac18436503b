"""The cluster's DNS: names of services and pods from the API, everything else from the node's own resolvers.

``records`` decides what a name means (pure); ``server`` speaks the protocol; ``forward`` asks others; ``publish`` makes
the Service ``kube-dns`` point here.
"""
