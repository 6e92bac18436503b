"""Subresources with their own behaviour: binding, eviction, scale, exec, tokens, reviews."""
