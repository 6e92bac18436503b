"""What a device says of itself, looked up by name.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/resource-slice-v1/ and KEP-4381
"""

from __future__ import annotations

from typing import Any

from tiphys.api.object import Object


class SelectorError(Exception):
    """A selector's expression does not compile, or fails for a device."""


def attribute_of(device: Object, driver: str, name: str) -> tuple[str, Any] | None:
    """Type and value of the attribute with a fully qualified name, or None."""
    attributes = device.get("attributes") or {}
    attribute = attributes.get(name)
    if attribute is None:
        domain, slash, identity = name.partition("/")
        if not slash or domain != driver or (attribute := attributes.get(identity)) is None:
            return None
    return next(((kind, value) for kind, value in attribute.items() if value is not None), None)
