"""Volumes of storage drivers: CSI on the node's side."""
