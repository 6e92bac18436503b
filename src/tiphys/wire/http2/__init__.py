"""HTTP/2 (RFC 9113) for the API server and the kubelet, on the h2 library."""
