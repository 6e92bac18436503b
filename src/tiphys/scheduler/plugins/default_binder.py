"""DefaultBinder: binds through the pod's ``binding`` subresource.

Source: https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins
"""

from __future__ import annotations

from tiphys.client import errors
from tiphys.client.resources import PODS
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import Status, error
from tiphys.scheduler.handle import Handle


class DefaultBinder:
    name = "DefaultBinder"

    def __init__(self, handle: Handle) -> None:
        self._client = handle.client

    async def bind(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
            "target": {"kind": "Node", "name": node},
        }
        try:
            await self._client.create(PODS, binding, namespace=pod.namespace, name=pod.name, subresource="binding")
        except (errors.ApiError, ConnectionError, TimeoutError) as problem:
            return error(str(problem))
        return None
