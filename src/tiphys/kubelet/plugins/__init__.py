"""Plugins of the node that register with the kubelet: storage drivers, and whatever else uses the protocol."""
