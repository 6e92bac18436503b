"""What claims and volumes are to each other: one meaning for the controllers, the scheduler and the kubelet."""
