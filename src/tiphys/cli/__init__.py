"""The command `tiphys`: composition roots, the only place that wires everything."""
