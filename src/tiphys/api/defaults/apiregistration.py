"""Defaults of the apiregistration.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#apiservice-v1-apiregistration-k8s-io
"""

from __future__ import annotations

from typing import Any

from tiphys.api.defaults.common import if_missing


def api_service(obj: dict[str, Any]) -> None:
    service = (obj.get("spec") or {}).get("service")
    if service is not None:
        if_missing(service, port=443)
