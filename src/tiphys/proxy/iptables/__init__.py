"""The service proxy by iptables: rules as text, and how they get into the kernel."""
