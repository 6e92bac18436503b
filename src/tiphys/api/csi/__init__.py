"""The container storage interface: its messages, and what the kubelet, the controllers and drivers agree on."""
