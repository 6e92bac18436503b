"""Whether the proxy keeps up, and what balancers ask of single Services."""
