"""The downward API: fields and resources of a pod as text, for variables and files.

Source: https://kubernetes.io/docs/concepts/workloads/pods/downward-api/
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import ceil

from tiphys.api.gotext import quote
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.quantities import milli, value

_SUBSCRIPT = re.compile(r"^(.+?)\['(.*)'\]$", re.S)


class FieldError(ValueError):
    """The selector names no field that the downward API offers."""


def format_map(values: Mapping[str, str]) -> str:
    """Labels or annotations as ``key="value"`` lines, in order of the keys."""
    return "\n".join(f"{key}={quote(values[key])}" for key in sorted(values))


def field_value(pod: Pod, path: str, *, pod_ips: Sequence[str] = (), host_ips: Sequence[str] = ()) -> str:
    """The text of ``path``. Raises ``FieldError`` with upstream's message."""
    meta = pod["metadata"]
    if subscript := _SUBSCRIPT.match(path):
        table, key = subscript.groups()
        if table not in ("metadata.annotations", "metadata.labels"):
            raise FieldError(f"fieldPath {quote(path)} does not support subscript")
        return str((meta.get(table.removeprefix("metadata.")) or {}).get(key, ""))
    match path:
        case "metadata.annotations" | "metadata.labels":
            return format_map(meta.get(path.removeprefix("metadata.")) or {})
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(meta.get(path.removeprefix("metadata."), ""))
        case "spec.nodeName" | "spec.serviceAccountName":
            return str(pod["spec"].get(path.removeprefix("spec."), ""))
        case "status.hostIP":
            return host_ips[0] if host_ips else ""
        case "status.hostIPs":
            return ",".join(host_ips)
        case "status.podIP":
            return pod_ips[0] if pod_ips else ""
        case "status.podIPs":
            return ",".join(pod_ips)
    raise FieldError(f"unsupported fieldPath: {path}")


def resource_value(
    pod: Pod, container: ContainerSpec, selector: Mapping[str, str], allocatable: Mapping[str, str]
) -> str:
    """A container's request or limit as a whole number of ``divisor``; a limit that is not set is the node's."""
    if name := selector.get("containerName"):
        located = pods.find_container(pod, name)
        if located is None:
            raise FieldError(f"container {name} not found")
        container = located[1]
    side, _, resource = str(selector["resource"]).partition(".")
    known = resource in ("cpu", "memory", "ephemeral-storage") or resource.startswith("hugepages-")
    if side not in ("limits", "requests") or not known:
        raise FieldError(f"unsupported container resource : {selector['resource']}")
    resources = container.get("resources") or {}
    quantity = (resources.get(side) or {}).get(resource)
    if quantity is None and side == "limits":
        quantity = allocatable.get(resource)
    divisor = selector.get("divisor") or "1"
    if value(divisor) == 0 and milli(divisor) == 0:
        divisor = "1"
    if resource == "cpu":
        return str(ceil(milli(quantity) / milli(divisor)))
    return str(-(-value(quantity) // max(value(divisor), 1)))
