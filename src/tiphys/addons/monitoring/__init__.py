"""Beside Prometheus: what it is to scrape, as Debian builds it without the discovery of Kubernetes."""
