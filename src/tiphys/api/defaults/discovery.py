"""Defaults of the discovery.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#endpointslice-v1-discovery-k8s-io
"""

from __future__ import annotations

from typing import Any

from tiphys.api.defaults.common import if_missing, items


def endpoint_slice(obj: dict[str, Any]) -> None:
    for port in items(obj, "ports"):
        if_missing(port, name="", protocol="TCP")
