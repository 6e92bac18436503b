"""Claims of devices: made from templates for pods, and given back when no pod uses them any more."""
