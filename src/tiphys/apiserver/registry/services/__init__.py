"""Services: allocated addresses and ports, defaulted families, and their repair."""
