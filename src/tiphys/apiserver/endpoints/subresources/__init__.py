"""Subresources with a behaviour of their own: binding, eviction, scale, exec, tokens, reviews."""
