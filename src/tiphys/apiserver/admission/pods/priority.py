"""Priority: the class that a pod names becomes a number; one class at most is the default.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.registry.registries import Registries

_GROUP = "scheduling.k8s.io"


class Priority(Plugin):
    resources = frozenset((("", "pods"), (_GROUP, "priorityclasses")))
    operations = frozenset((CREATE, UPDATE))

    def __init__(self, registries: Registries) -> None:
        self._classes = registries.get(_GROUP, "priorityclasses")
        self._default: tuple[int, Object | None] = (-1, None)

    async def admit(self, attributes: Attributes) -> None:
        if attributes.plural != "pods":
            return
        spec = attributes.new()["spec"]
        if attributes.operation == UPDATE:
            before = (attributes.old or {}).get("spec") or {}
            for name in ("priority", "preemptionPolicy"):
                if spec.get(name) is None and before.get(name) is not None:
                    spec[name] = before[name]
            return
        await self._resolve(attributes, spec)

    async def _resolve(self, attributes: Attributes, spec: Object) -> None:
        """Set a pod's priority and preemption policy from its class. Raises 403 if the pod says otherwise."""
        value, policy = 0, "PreemptLowerPriority"
        priority_class = await self._class(attributes, spec.get("priorityClassName", ""))
        if priority_class is not None:
            spec["priorityClassName"] = priority_class["metadata"]["name"]
            value, policy = priority_class["value"], priority_class.get("preemptionPolicy") or ""
        given = spec.get("priority")
        if given is not None and given != value:
            raise forbid(
                attributes,
                f"the integer value of priority ({given}) must not be provided in pod spec;"
                f" priority admission controller computed {value} from the given PriorityClass name",
            )
        spec["priority"] = value
        if not policy:
            return
        given = spec.get("preemptionPolicy")
        if given is not None and given != policy:
            raise forbid(
                attributes,
                f"the string value of PreemptionPolicy ({given}) must not be provided in pod spec;"
                f" priority admission controller computed {policy} from the given PriorityClass name",
            )
        spec["preemptionPolicy"] = policy

    async def _class(self, attributes: Attributes, name: str) -> Object | None:
        if not name:
            return await self._default_class()
        priority_class = await self._classes.shared("", name)
        if priority_class is None:
            raise forbid(attributes, f"no PriorityClass with name {name} was found")
        return priority_class

    async def _default_class(self) -> Object | None:
        """The class that is marked as default; of several, the one with the lowest value."""
        cacher = self._classes.store.cacher
        await cacher.ready()
        if self._default[0] != cacher.generation:
            classes = [self._classes.shared_object(entry) for entry in await self._classes.all()]
            marked = [candidate for candidate in classes if candidate.get("globalDefault")]
            self._default = (cacher.generation, min(marked, key=lambda c: c["value"], default=None))
        return self._default[1]

    async def validate(self, attributes: Attributes) -> None:
        if attributes.plural != "priorityclasses" or not attributes.new().get("globalDefault"):
            return
        default = await self._default_class()
        if default is None:
            return
        name = default["metadata"]["name"]
        if attributes.operation == CREATE or name != attributes.new()["metadata"]["name"]:
            reason = f"PriorityClass {name} is already marked as default. Only one default can exist"
            raise forbid(attributes, reason)
