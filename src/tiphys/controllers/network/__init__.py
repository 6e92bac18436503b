"""Controllers of Services: endpoints, endpoint slices, address ranges."""
