"""A pod on its node: where it is in its life, what to do next, and the loop that does it."""
