"""RuntimeClasses: which of the runtime's handlers a pod asks for.

Source: https://kubernetes.io/docs/concepts/containers/runtime-class/
"""

from __future__ import annotations

from tiphys.client import errors
from tiphys.client.resources import RUNTIME_CLASSES
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.volumes.manager import ObjectSource


class HandlerFailure(Exception):
    """The pod's RuntimeClass cannot be had."""


class RuntimeClasses:
    def __init__(self, objects: ObjectSource) -> None:
        self._objects = objects

    async def handler(self, pod: Pod) -> str:
        """The handler for a pod's sandbox; empty for the runtime's default. Raises ``HandlerFailure``."""
        name = pods.spec_of(pod).get("runtimeClassName")
        if not name:
            return ""
        try:
            runtime_class = await self._objects.get(pods.uid_of(pod), RUNTIME_CLASSES, "", name)
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            raise HandlerFailure(f"failed to lookup RuntimeClass {name}: {error}") from error
        if runtime_class is None:
            raise HandlerFailure(f'runtimeclass.node.k8s.io "{name}" not found')
        return str(runtime_class.get("handler", ""))
