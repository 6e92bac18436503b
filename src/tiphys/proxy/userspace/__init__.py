"""The service proxy without a packet filter: it listens on the services' addresses itself."""
