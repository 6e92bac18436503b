"""Networks of a cluster on one machine: bridges, addresses and ranges of nodes and pods."""
