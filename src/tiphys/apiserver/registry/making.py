"""Objects that the server itself writes: prepared and owned as if they had come by a request of its own."""

from __future__ import annotations

from typing import Any

from tiphys.api import codec
from tiphys.api.apply import excluding, of_paths, update_managed_fields
from tiphys.api.defaults import apply_defaults
from tiphys.api.schema import schema_for
from tiphys.apiserver.registry.registry import Registry
from tiphys.apiserver.registry.strategy import Write

Object = dict[str, Any]

_MANAGER = "kube-apiserver"


def prepared(registry: Registry, obj: Object) -> Object:
    """With defaults, and what is always shown; in place."""
    gvk = registry.strategy.gvk
    apply_defaults(obj, gvk)
    return codec.complete(obj, schema_for(gvk))


def owned(registry: Registry, old: Object | None, new: Object, write: Write) -> Object:
    """``new``, which is prepared, with the fields that this write changes managed by the server; in place."""
    gvk, reset = registry.strategy.gvk, registry.strategy.reset_fields
    filters = {gvk.api_version: excluding(of_paths(*reset))} if reset else {}
    return update_managed_fields(old, new, _MANAGER, gvk, schema_for(gvk), write.now, filters=filters)
