"""Objects that the server itself writes: prepared and owned as if they had come by its own request."""

from __future__ import annotations

from tiphys.api import codec, errors
from tiphys.api.apply import excluding, of_paths, update_managed_fields
from tiphys.api.defaults import apply_defaults
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.api.schema import schema_for
from tiphys.apiserver.registry import creating, deleting
from tiphys.apiserver.registry.registry import Registry, no_validation
from tiphys.apiserver.registry.strategy import Write
from tiphys.apiserver.storage.objects import Exists

_MANAGER = "kube-apiserver"


def prepared(registry: Registry, obj: Object) -> Object:
    """With defaults, and what is always shown; in place."""
    gvk = registry.strategy.gvk
    apply_defaults(obj, gvk)
    return codec.complete(obj, schema_for(gvk))


def owned_status(registry: Registry, old: Object, new: Object, now: str) -> Object:
    """``new``, which differs in its status, with what changes of it managed by the server; in place."""
    gvk = registry.strategy.gvk
    filters = {gvk.api_version: excluding(of_paths(*registry.strategy.reset_by_status))}
    return update_managed_fields(old, new, _MANAGER, gvk, schema_for(gvk), now, "status", filters=filters)


def owned(registry: Registry, old: Object | None, new: Object, write: Write) -> Object:
    """``new``, which is prepared, with the fields that this write changes managed by the server; in place."""
    gvk, reset = registry.strategy.gvk, registry.strategy.reset_fields
    filters = {gvk.api_version: excluding(of_paths(*reset))} if reset else {}
    return update_managed_fields(old, new, write.manager or _MANAGER, gvk, schema_for(gvk), write.now, filters=filters)


async def make_if_missing(registry: Registry, wanted: Object, manager: str = "") -> None:
    """Write an object of the server's own, past admission, if none exists of its name."""
    meta = wanted["metadata"]
    await registry.store.cacher.ready()
    key = registry.store.key(meta.get("namespace", ""), meta["name"])
    if registry.store.cacher.get(key) is None:
        await make(registry, wanted, manager)


async def make(registry: Registry, wanted: Object, manager: str = "") -> None:
    """As ``make_if_missing``, of an object that the cache may still have although it is gone."""
    meta = wanted["metadata"]
    key = registry.store.key(meta.get("namespace", ""), meta["name"])
    obj = copy(wanted)
    write = registry.write_context(namespace=meta.get("namespace", ""), manager=manager)
    creating.fill_system_fields(registry, obj["metadata"], write)
    owned(registry, None, prepared(registry, obj), write)
    registry.strategy.prepare_create(obj, write)
    if "status" in wanted:
        obj["status"] = copy(wanted["status"])
    try:
        await registry.store.create(key, obj)
    except Exists:
        return  # another server was faster


async def delete_own(registry: Registry, namespace: str, name: str) -> None:
    """Delete an object, past admission; one that is gone is fine."""
    write = registry.write_context(namespace=namespace)
    try:
        await deleting.delete(registry, namespace, name, deleting.DeleteOptions(), write, no_validation)
    except errors.StatusError as error:
        if error.code != 404:
            raise
