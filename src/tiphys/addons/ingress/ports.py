"""Where the ingress proxy listens on the node; its Service leads there. A leaf."""

HTTP_PORT, HTTPS_PORT = 10080, 10443
