"""The node lifecycle controller: tells from heartbeats which nodes live, and taints those that do not."""
