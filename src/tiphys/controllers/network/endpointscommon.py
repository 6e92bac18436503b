"""What the endpoints, endpoint slice and mirroring controllers share: which pods stand behind which services, and how.

Source: https://kubernetes.io/docs/concepts/services-networking/service/
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from tiphys.api.object import Object
from tiphys.client.informer import Informer
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.objects import (
    condition,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    status_of,
)
from tiphys.controlkit.queue import WorkQueue
from tiphys.controlkit.selectors import set_selector

TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
HEADLESS = "service.kubernetes.io/headless"
IPV4, IPV6 = "IPv4", "IPv6"


def has_cluster_ip(service: Object) -> bool:
    return service["spec"].get("clusterIP") not in (None, "", "None")


def is_headless(service: Object) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


def family_of(address: str) -> str | None:
    """IPv4 or IPv6; None if it is no address."""
    try:
        return IPV6 if ipaddress.ip_address(address).version == 6 else IPV4
    except ValueError:
        return None


def pod_addresses(pod: Object, family: str) -> list[str]:
    """The pod's addresses of one family."""
    addresses = (entry.get("ip", "") for entry in status_of(pod).get("podIPs") or ())
    return [address for address in addresses if family_of(address) == family]


def belongs(pod: Object, *, include_terminating: bool) -> bool:
    """Whether the pod is an endpoint of the services that select it, ready or not."""
    status = status_of(pod)
    if podkit.is_finished(pod) or not (status.get("podIP") or status.get("podIPs")):
        return False
    return include_terminating or not is_deleting(pod)


def hostname_of(pod: Object, service: Object) -> str | None:
    """The pod's hostname if DNS is to serve it below the service."""
    hostname = pod["spec"].get("hostname")
    same = pod["spec"].get("subdomain") == name_of(service) and namespace_of(pod) == namespace_of(service)
    return str(hostname) if hostname and same else None


def find_port(pod: Object, port: Object) -> int | None:
    """The number of the container port that a service port leads to; None if the pod has none of that name."""
    target = port.get("targetPort")
    if target is None or target in (0, ""):
        target = port["port"]
    if isinstance(target, int):
        return target
    spec = pod["spec"]
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in [*spec["containers"], *sidecars]:
        for container_port in container.get("ports") or ():
            if container_port.get("name") == target and container_port.get("protocol", "TCP") == port.get(
                "protocol", "TCP"
            ):
                return int(container_port["containerPort"])
    return None


def pod_reference(pod: Object) -> Object:
    return {
        "kind": "Pod",
        "namespace": namespace_of(pod),
        "name": name_of(pod),
        "uid": pod["metadata"].get("uid", ""),
    }


class TriggerTimes:
    """When the change happened that a write of endpoints answers to; for measuring how long programming takes."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, dict[str, str]]] = {}

    def compute(self, service: Object, pods: Iterable[Object]) -> str | None:
        """The earliest change since the last call for this service, as RFC 3339; None if nothing changed."""
        key = key_of(service)
        known = self._known.get(key)
        last_service, last_pods = known or ("", {})
        times = {
            name_of(pod): since
            for pod in pods
            if (ready := condition(pod, "Ready")) is not None and (since := ready.get("lastTransitionTime"))
        }
        changed = [since for name, since in times.items() if since > last_pods.get(name, "")]
        created = service["metadata"].get("creationTimestamp") or ""
        if created > last_service:
            changed.append(created)
        self._known[key] = (created, times)
        if known is None:
            return created or None
        return min(changed, default=None)

    def forget(self, key: str) -> None:
        self._known.pop(key, None)


class PodsOfServices:
    """A handler of pod events: enqueues, ``period`` seconds later, the services whose endpoints a pod's change may
    concern, so that changes that come close together are done in one go."""

    def __init__(self, services: Informer, queue: WorkQueue[str], period: float = 0.0) -> None:
        self._services, self._queue, self._period = services, queue, period

    def added(self, pod: Object, *, initial: bool) -> None:
        self._enqueue(self._matching(pod))

    def deleted(self, pod: Object) -> None:
        self._enqueue(self._matching(pod))

    def updated(self, old: Object, new: Object) -> None:
        changed = _endpoint_changed(old, new)
        relabelled = labels_of(old) != labels_of(new) or _hostname(old) != _hostname(new)
        if changed and not relabelled:
            self._enqueue(self._matching(new))
        elif changed or relabelled:
            self._enqueue({*self._matching(new), *self._matching(old)})

    def _enqueue(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._queue.add_after(key, self._period)

    def _matching(self, pod: Object) -> list[str]:
        labels = labels_of(pod)
        return [
            key_of(service)
            for service in self._services.store.list(namespace_of(pod))
            if service["spec"].get("selector") and set_selector(service["spec"]["selector"])(labels)
        ]


def _hostname(pod: Object) -> tuple[str | None, str | None]:
    return pod["spec"].get("hostname"), pod["spec"].get("subdomain")


def _endpoint_changed(old: Object, new: Object) -> bool:
    return (
        is_deleting(old) != is_deleting(new)
        or podkit.is_finished(old) != podkit.is_finished(new)
        or podkit.is_ready(old) != podkit.is_ready(new)
        or status_of(old).get("podIPs") != status_of(new).get("podIPs")
    )


def selected_pods(pods: Informer, service: Object) -> Sequence[Object]:
    matches = set_selector(service["spec"]["selector"])
    return [pod for pod in pods.store.list(namespace_of(service)) if matches(labels_of(pod))]
