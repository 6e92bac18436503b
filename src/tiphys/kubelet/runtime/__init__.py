"""The runtime as the kubelet sees it: two Protocols, and containerd behind them by CRI v1."""
