"""Programs beside the control plane that a cluster may run: resource metrics."""
