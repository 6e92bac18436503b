"""Where pods may run: taints, and which nodes a selector takes. One meaning for every component."""
