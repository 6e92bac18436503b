"""The runtime as the kubelet sees it: two Protocols, containerd behind them by CRI v1, and a simulated one."""
