"""A container of a pod: its configuration for the runtime, its image, hooks, logs and end."""
