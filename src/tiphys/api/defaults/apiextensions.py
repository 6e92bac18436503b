"""Defaults of the apiextensions.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#customresourcedefinition-v1-apiextensions-k8s-io
"""

from __future__ import annotations

from typing import Any

from tiphys.api.defaults.common import child, if_empty, if_missing, items


def custom_resource_definition(obj: dict[str, Any]) -> None:
    """Default the names, conversion strategy, webhook port and stored versions of a definition; in place."""
    spec = child(obj, "spec")
    names = child(spec, "names")
    kind = names.get("kind") or ""
    if kind:
        if_empty(names, singular=kind.lower(), listKind=kind + "List")
    if spec.get("conversion") is None:
        spec["conversion"] = {"strategy": "None"}
    client = (spec["conversion"].get("webhook") or {}).get("clientConfig") or {}
    if client.get("service") is not None:
        if_missing(client["service"], port=443)
    status = child(obj, "status")
    if not status.get("storedVersions"):
        stored = next((v.get("name") for v in items(spec, "versions") if v.get("storage")), None)
        if stored is not None:
            status["storedVersions"] = [stored]
