"""RuntimeClass: the overhead and the nodes of a pod's runtime become part of its spec.

Source: https://kubernetes.io/docs/concepts/containers/runtime-class/
"""

from __future__ import annotations

from typing import Any

from tiphys.api import errors
from tiphys.api.gotext import quote
from tiphys.api.meta.copying import copy
from tiphys.apiserver.admission.attributes import CREATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid, lookup_problem
from tiphys.apiserver.registry.registries import Registries

Object = dict[str, Any]


class RuntimeClass(Plugin):
    resources = frozenset((("", "pods"),))
    operations = frozenset((CREATE,))

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    async def _class(self, attributes: Attributes) -> Object | None:
        name = attributes.new()["spec"].get("runtimeClassName")
        if name is None:
            return None
        classes = self._registries.get("node.k8s.io", "runtimeclasses")
        entry = await classes.store.get("", name)
        if entry is None:
            if problem := lookup_problem(name):
                raise errors.from_code(500, problem)
            raise forbid(attributes, f"pod rejected: RuntimeClass {quote(name)} not found")
        return classes.object(entry)

    async def admit(self, attributes: Attributes) -> None:
        found = await self._class(attributes)
        if found is None:
            return
        spec = attributes.new()["spec"]
        if overhead := _overhead(found):
            if spec.get("overhead") and spec["overhead"] != overhead:
                raise _mismatch(attributes)
            spec["overhead"] = overhead
        if scheduling := found.get("scheduling"):
            _set_scheduling(attributes, spec, scheduling)

    async def validate(self, attributes: Attributes) -> None:
        found = await self._class(attributes)
        overhead = attributes.new()["spec"].get("overhead")
        wanted = _overhead(found) if found is not None else None
        if wanted:
            if overhead != wanted:
                raise _mismatch(attributes)
        elif overhead is not None:
            reason = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise forbid(attributes, reason)


def _overhead(found: Object) -> Object | None:
    amounts: Object | None = (found.get("overhead") or {}).get("podFixed")
    return amounts


def _mismatch(attributes: Attributes) -> Exception:
    return forbid(attributes, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")


def _set_scheduling(attributes: Attributes, spec: Object, scheduling: Object) -> None:
    selector = dict(spec.get("nodeSelector") or {})
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        if selector.get(key, value) != value:
            raise forbid(
                attributes,
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value};"
                f" pod.spec.nodeSelector[{key}] = {selector[key]}",
            )
        selector[key] = value
    if selector:
        spec["nodeSelector"] = selector
    tolerations = list(spec.get("tolerations") or ())
    tolerations += [copy(t) for t in scheduling.get("tolerations") or () if t not in tolerations]
    if tolerations:
        spec["tolerations"] = tolerations
