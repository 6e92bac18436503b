"""The controllers of the control plane: each brings one kind of object nearer to what its spec wants."""
