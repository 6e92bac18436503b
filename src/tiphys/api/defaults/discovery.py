"""Defaults of the discovery.k8s.io group, v1."""

from __future__ import annotations

from typing import Any

from tiphys.api.defaults.common import if_missing, items


def endpoint_slice(obj: dict[str, Any]) -> None:
    for port in items(obj, "ports"):
        if_missing(port, name="", protocol="TCP")
