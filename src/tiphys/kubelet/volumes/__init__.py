"""What a pod mounts: files from the API (atomically replaced), scratch space, and folders of the node."""
