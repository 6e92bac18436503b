"""How images come to the node: whose credentials a pull uses, and who may start from what was pulled before."""
