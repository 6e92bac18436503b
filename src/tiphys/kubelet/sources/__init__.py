"""Where pods come from: the API server, and a folder of manifests (static pods)."""
