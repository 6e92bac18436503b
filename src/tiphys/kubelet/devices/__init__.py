"""Device plugins: programs that say which devices the node has, and what a container needs to use one."""
