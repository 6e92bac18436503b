"""Makes a volume for each claim that asks this driver for one, and removes those that are released."""
