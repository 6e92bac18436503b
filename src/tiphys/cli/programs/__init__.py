"""The processes of a node, as `tiphys up` runs them."""
