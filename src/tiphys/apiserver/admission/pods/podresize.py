"""PodResizeValidator: a running pod grows only if its node can ever carry it.

Source: https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/
"""

from __future__ import annotations

from tiphys.api import errors
from tiphys.api.gotext import quote
from tiphys.api.meta.quantity import Quantity, parse
from tiphys.api.object import Object
from tiphys.api.pods.resources import Amounts, pod_requests
from tiphys.apiserver.admission.attributes import UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.registry.registries import Registries


class PodResizeValidator(Plugin):
    resources = frozenset((("", "pods"),))
    operations = frozenset((UPDATE,))
    subresources = frozenset(("resize",))

    def __init__(self, registries: Registries) -> None:
        self._nodes = registries.get("", "nodes")

    async def validate(self, attributes: Attributes) -> None:
        pod, old = attributes.new(), attributes.old or {}
        name = pod["spec"].get("nodeName")
        if not name or pod["metadata"].get("generation") == old["metadata"].get("generation"):
            return
        node = await self._nodes.shared("", name)
        if node is None:
            raise forbid(attributes, f"node {quote(name)} not found")
        system = (node["metadata"].get("labels") or {}).get("kubernetes.io/os", "linux")
        if system != "linux":
            reason = f"pod resize is only supported on linux nodes, node {quote(name)} is {quote(system)}"
            raise _refused(attributes, reason, "UnsupportedPlatform")
        _check_fit(attributes, pod, node)


def _check_fit(attributes: Attributes, pod: Object, node: Object) -> None:
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    requests = pod_requests(pod)
    shortages = []
    cpu, cpu_there = _both(requests, allocatable, "cpu")
    if cpu_there < cpu:
        shortages.append(f"cpu, requested: {cpu.milli_value()}, allocatable: {cpu_there.milli_value()}")
    memory, memory_there = _both(requests, allocatable, "memory")
    if memory_there < memory:
        shortages.append(f"memory, requested: {memory.value()}, allocatable: {memory_there.value()}")
    if shortages:
        reason = f"node didn't have enough allocatable resources: {'; '.join(shortages)}"
        raise _refused(attributes, reason, "NodeCapacity")


def _both(requests: Amounts, allocatable: Object, name: str) -> tuple[Quantity, Quantity]:
    return requests.get(name, parse("0")), parse(str(allocatable.get(name, "0")))


def _refused(attributes: Attributes, reason: str, cause: str) -> errors.StatusError:
    error = forbid(attributes, reason)
    error.status["details"]["causes"] = [errors.cause(cause, "")]
    return error
