"""The fixed names of the table of network policies."""

from __future__ import annotations

from typing import Literal

TABLE = "tiphys-policy"
SELF = "self"
Direction = Literal["ingress", "egress"]
DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")
MAPS: dict[Direction, str] = {"ingress": "ingress-pods", "egress": "egress-pods"}
Key = tuple[str, str]
"""Namespace and name."""
