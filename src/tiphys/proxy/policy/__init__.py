"""Network policies: what may reach this node's pods, and what they may reach, as one nftables table for each family."""
