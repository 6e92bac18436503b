"""Events about pods and their containers, by the role that the kubelet's parts need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod

EventType = Literal["Normal", "Warning"]


class Recorder(Protocol):
    """What ``controlkit.events.EventRecorder`` offers and the kubelet uses."""

    def event(
        self,
        obj: dict[str, Any],
        type: EventType,
        reason: str,
        message: str,
        *,
        field_path: str = "",
        annotations: dict[str, Any] | None = None,
    ) -> None: ...


class PodEvents:
    """Records events about a pod, or about one container of it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def pod(
        self, pod: Pod, type: EventType, reason: str, message: str, annotations: Mapping[str, str] | None = None
    ) -> None:
        self._recorder.event(reference(pod), type, reason, message, annotations=dict(annotations or {}))

    def container(
        self, pod: Pod, name: str, type: EventType, reason: str, message: str, container_id: str = ""
    ) -> None:
        """Runtimes' messages often hold a container's id; its name says more, and lets equal events be counted."""
        text = message.replace(container_id, name) if container_id else message
        self._recorder.event(reference(pod), type, reason, text, field_path=pods.field_path(pod, name))

    def slow_volume(self, pod: Pod, folder: str) -> None:
        """A volume has so many files that giving it to the pod's group takes long."""
        page = "https://kubernetes.io/docs/tasks/configure-pod-container/security-context/"
        section = "#configure-volume-permission-and-ownership-change-policy-for-pods"
        message = f"Setting volume ownership for {folder} is taking longer than expected, consider using OnRootMismatch"
        self.pod(pod, "Warning", "VolumePermissionChangeInProgress", f"{message} - {page}{section}")


def reference(pod: Pod) -> dict[str, Any]:
    meta = pod["metadata"]
    fields = {
        "kind": "Pod",
        "namespace": meta.get("namespace"),
        "name": meta.get("name"),
        "uid": meta.get("uid"),
        "apiVersion": "v1",
        "resourceVersion": meta.get("resourceVersion"),
    }
    return {key: value for key, value in fields.items() if value}
