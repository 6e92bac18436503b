"""Snapshots of volumes: the kinds that the external-snapshotter's CRDs define, and the controllers behind them."""
