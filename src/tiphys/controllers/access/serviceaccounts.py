"""The service account controller: every active namespace has the service account ``default``.

Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#serviceaccount-controller
"""

from __future__ import annotations

from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import NAMESPACES, SERVICE_ACCOUNTS
from tiphys.controlkit.objects import namespace_of, status_of
from tiphys.controlkit.podcontrol import namespace_is_terminating
from tiphys.controllers.context import ControllerContext

ENSURED = ("default",)


class ServiceAccountController:
    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._namespaces = context.informers.informer(NAMESPACES)
        self._accounts = context.informers.informer(SERVICE_ACCOUNTS)
        self._controller = context.controller("serviceaccount", self.reconcile)
        self._controller.watches(self._namespaces)
        queue = self._controller.queue
        self._controller.handles(self._accounts, Callbacks(deleted=lambda account: queue.add(namespace_of(account))))

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> None:
        namespace = self._namespaces.store.get("", key)
        if namespace is None or status_of(namespace).get("phase") != "Active":
            return
        for name in ENSURED:
            if self._accounts.store.get(key, name) is None:
                await self._create(key, name)

    async def _create(self, namespace: str, name: str) -> None:
        meta = {"name": name, "namespace": namespace}
        try:
            await self._client.create(
                SERVICE_ACCOUNTS, {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": meta}
            )
        except errors.AlreadyExists:
            return
        except errors.ApiError as error:
            if not namespace_is_terminating(error):
                raise
