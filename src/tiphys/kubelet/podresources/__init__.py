"""What each container was given piece by piece, for monitors of devices: the service PodResourcesLister."""
