"""Controllers of nodes: address ranges, leases and conditions, taints and what they evict."""
