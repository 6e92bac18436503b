"""What is particular to a resource: one strategy per kind that needs one, and the writes that all of them share."""
