"""Storage: the controllers that go with a CSI driver, and the driver of the node's own disk."""
