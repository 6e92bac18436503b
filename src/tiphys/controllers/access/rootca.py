"""The root CA publisher: the config map ``kube-root-ca.crt`` in every namespace, for pods to trust the API server.

Source:
https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-token-volume
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import CONFIG_MAPS, NAMESPACES
from tiphys.controlkit.objects import (
    annotations_of,
    copy,
    is_deleting,
    namespace_of,
    set_annotation,
)
from tiphys.controlkit.podcontrol import namespace_is_terminating
from tiphys.controllers.context import ControllerContext

NAME = "kube-root-ca.crt"
DESCRIPTION_ANNOTATION = "kubernetes.io/description"
DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


class RootCAPublisher:
    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._data = {"ca.crt": context.config.root_ca.decode()}
        self._namespaces = context.informers.informer(NAMESPACES)
        self._maps = context.informers.informer(CONFIG_MAPS, field_selector=f"metadata.name={NAME}")
        self._controller = context.controller("root_ca_cert_publisher", self.reconcile)
        self._controller.watches(self._namespaces)
        queue = self._controller.queue

        def enqueue(config_map: Object) -> None:
            queue.add(namespace_of(config_map))

        def updated(old: Object, new: Object) -> None:
            enqueue(new)

        self._controller.handles(self._maps, Callbacks(added=lambda config_map: None, updated=updated, deleted=enqueue))

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> None:
        namespace = self._namespaces.store.get("", key)
        if namespace is None or is_deleting(namespace):
            return
        current = self._maps.store.get(key, NAME)
        if current is None:
            await self._create(key)
        elif current.get("data") != self._data or not annotations_of(current).get(DESCRIPTION_ANNOTATION):
            wanted = copy(current)
            wanted["data"] = self._data
            set_annotation(wanted, DESCRIPTION_ANNOTATION, DESCRIPTION)
            await self._client.update(CONFIG_MAPS, wanted)

    async def _create(self, namespace: str) -> None:
        meta = {"name": NAME, "namespace": namespace, "annotations": {DESCRIPTION_ANNOTATION: DESCRIPTION}}
        wanted = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": meta, "data": self._data}
        try:
            await self._client.create(CONFIG_MAPS, wanted)
        except (errors.AlreadyExists, errors.NotFound):
            return
        except errors.ApiError as error:
            if not namespace_is_terminating(error):
                raise
