"""The daemon set controller: one pod on every node that fits."""
