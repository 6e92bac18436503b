"""What follows from a pod's spec, and is the same for every component: resources, quality of service, quota."""
