"""Kills under churn: a running cluster whose processes are killed while much changes in it, and what must hold after.

``ledger`` writes and remembers what was acknowledged, ``churn`` keeps workloads changing, ``inspection`` says what is
lost, doubled or left behind. `tiphys torture` puts them together.
"""
