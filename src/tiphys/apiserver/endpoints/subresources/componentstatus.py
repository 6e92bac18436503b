"""``componentstatuses``: an old view of the health of the parts of a cluster; here of the store.

Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/component-status-v1/ (deprecated)
"""

from __future__ import annotations

from tiphys.api import errors
from tiphys.api.object import Object
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.negotiation import negotiate
from tiphys.apiserver.endpoints.options import list_options
from tiphys.apiserver.endpoints.respond import show_list, show_object
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.storage.entry import Entry
from tiphys.store.backend import Backend, StoreError
from tiphys.wire.http import Response

_NAME = "etcd-0"


class ComponentStatuses:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def __call__(self, call: Call, target: Target) -> Response:
        form = negotiate(call)
        if call.info.verb != "list":
            if call.info.name != _NAME:
                raise errors.not_found("", "componentstatus", call.info.name)
            return show_object(call, target, await self._component(), form)
        selection = target.selection("", list_options(call, watch=False))
        wanted = selection.matches(Entry("", "", _NAME, {}, (), b"", 0))
        return show_list(call, target, [await self._component()] if wanted else [], {}, form)

    async def _component(self) -> Object:
        try:
            await self._backend.healthy()
            condition = {"type": "Healthy", "status": "True", "message": "ok"}
        except StoreError as error:
            condition = {"type": "Healthy", "status": "False", "message": str(error)}
        head = {"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": _NAME}}
        return head | {"conditions": [condition]}
