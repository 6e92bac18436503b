"""RuntimeClass: the overhead and the nodes of a pod's runtime become part of its spec.

Source: https://kubernetes.io/docs/concepts/containers/runtime-class/
"""

from __future__ import annotations

from tiphys.api import errors
from tiphys.api.gotext import quote
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.apiserver.admission.attributes import CREATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid, lookup_problem
from tiphys.apiserver.registry.registries import Registries


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
        runtime_class = await self._class(attributes)
        if runtime_class is None:
            return
        spec = attributes.new()["spec"]
        if runtime_class.get("overhead") is not None:
            overhead = _overhead(runtime_class)
            if spec.get("overhead") and spec["overhead"] != overhead:
                raise _mismatch(attributes)
            if overhead:
                spec["overhead"] = overhead
        if scheduling := runtime_class.get("scheduling"):
            _set_scheduling(attributes, spec, scheduling)

    async def validate(self, attributes: Attributes) -> None:
        runtime_class = await self._class(attributes)
        overhead = attributes.new()["spec"].get("overhead")
        if runtime_class is not None and runtime_class.get("overhead") is not None:
            if (overhead or None) != (_overhead(runtime_class) or None):
                raise _mismatch(attributes)
        elif overhead is not None:
            reason = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise forbid(attributes, reason)


def _overhead(runtime_class: Object) -> Object | None:
    amounts: Object | None = (runtime_class.get("overhead") or {}).get("podFixed")
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
    tolerations = merge_tolerations([*(spec.get("tolerations") or ()), *copy(scheduling.get("tolerations") or [])])
    if tolerations:
        spec["tolerations"] = tolerations


def merge_tolerations(every: list[Object]) -> list[Object]:
    """Those that no other one includes; the first of equal ones."""
    kept: list[Object] = []
    for i, toleration in enumerate(every):
        if any(_includes(other, toleration) for other in kept):
            continue
        if not any(other != toleration and _includes(other, toleration) for other in every[i + 1 :]):
            kept.append(toleration)
    return kept


def _includes(wide: Object, narrow: Object) -> bool:
    if wide == narrow:
        return True
    every_key = not wide.get("key") and wide.get("operator") == "Exists"
    if narrow.get("key") != wide.get("key") and not every_key:
        return False
    if wide.get("effect") and narrow.get("effect") != wide["effect"]:
        return False
    limit, wanted = wide.get("tolerationSeconds"), narrow.get("tolerationSeconds")
    if wide.get("effect") == "NoExecute" and limit is not None and (wanted is None or wanted > limit):
        return False
    if wide.get("operator") in (None, "", "Equal"):
        return narrow.get("operator") == "Equal" and narrow.get("value") == wide.get("value")
    return wide.get("operator") == "Exists"
