"""Processors, memory and devices of one container near each other: the topology manager and who it asks."""
