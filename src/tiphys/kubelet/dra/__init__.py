"""Dynamic resource allocation on the node: drivers prepare the devices that claims were given."""
