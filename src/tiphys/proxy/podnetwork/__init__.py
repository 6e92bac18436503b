"""The pods' network across nodes: a route to each other node's pods, and this node's own range as it is given."""
