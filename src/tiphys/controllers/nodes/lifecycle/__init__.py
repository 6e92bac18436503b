"""The node lifecycle controller: decides from heartbeats which nodes are alive, and taints those that are not."""
