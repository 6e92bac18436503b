"""Nodes as they are needed: more for pods that wait for room, fewer when some are empty; by the scheduler's word."""
