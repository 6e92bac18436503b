"""What a server makes sure of when it starts: default policy, namespaces, the service ``kubernetes`` and the like."""
