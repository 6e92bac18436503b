"""The status of admission policies: what their expressions get wrong about the kinds that they are for."""
