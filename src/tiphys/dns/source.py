"""The cluster's objects for ``records``, from informers: indexed by what names ask for.

Source: https://github.com/kubernetes/dns/blob/master/docs/specification.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tiphys.api.object import Object
from tiphys.client.informer import Callbacks, Informer
from tiphys.client.resources import ENDPOINT_SLICES, NAMESPACES, SERVICES
from tiphys.client.rest import Client
from tiphys.runtime.clock import Clock

SERVICE_NAME = "kubernetes.io/service-name"


class InformerSource:
    """``changed`` is called whenever an answer could be another one than before."""

    def __init__(self, client: Client, clock: Clock, changed: Callable[[], None]) -> None:
        self.services = Informer(client, SERVICES, clock)
        self.slice_informer = Informer(client, ENDPOINT_SLICES, clock, transform=_slim_slice)
        self.namespaces = Informer(client, NAMESPACES, clock, transform=_slim_namespace)
        self.informers = (self.services, self.slice_informer, self.namespaces)
        self.services.add_index("ip", lambda s: s["spec"].get("clusterIPs") or (s["spec"].get("clusterIP", ""),))
        self.slice_informer.add_index("service", _service_of)
        self.slice_informer.add_index("ip", _addresses_of)
        for informer in self.informers:
            informer.add_handler(Callbacks(changed=lambda obj: changed()))

    @property
    def synced(self) -> bool:
        return all(informer.synced for informer in self.informers)

    def service(self, namespace: str, name: str) -> Object | None:
        return self.services.store.get(namespace, name)

    def slices(self, namespace: str, service: str) -> Iterable[Object]:
        return self.slice_informer.store.by_index("service", f"{namespace}/{service}")

    def namespace_exists(self, name: str) -> bool:
        return self.namespaces.store.get("", name) is not None

    def services_by_ip(self, ip: str) -> Iterable[Object]:
        return self.services.store.by_index("ip", ip)

    def slices_by_ip(self, ip: str) -> Iterable[Object]:
        return self.slice_informer.store.by_index("ip", ip)


def _service_of(slice_: Object) -> Iterable[str]:
    name = (slice_["metadata"].get("labels") or {}).get(SERVICE_NAME)
    return (f"{slice_['metadata']['namespace']}/{name}",) if name else ()


def _addresses_of(slice_: Object) -> Iterable[str]:
    return {ip for endpoint in slice_.get("endpoints") or () for ip in endpoint.get("addresses") or ()}


def _slim_slice(slice_: Object) -> Object:
    meta = slice_["metadata"]
    meta.pop("managedFields", None)
    meta.pop("annotations", None)
    return slice_


def _slim_namespace(namespace: Object) -> Object:
    meta = namespace["metadata"]
    return {"metadata": {"name": meta["name"], "resourceVersion": meta.get("resourceVersion", "")}}
