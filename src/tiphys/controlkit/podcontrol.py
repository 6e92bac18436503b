"""Creating and deleting the pods of a controller, with the events that go with it.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import PODS
from tiphys.client.rest import Client
from tiphys.controlkit.events import EventRecorder
from tiphys.controlkit.objects import (
    copy,
    name_of,
)

NAMESPACE_TERMINATING = "NamespaceTerminating"


def namespace_is_terminating(error: errors.ApiError) -> bool:
    """Whether a create was refused because its namespace is being deleted: no reason to try again."""
    causes = (error.status.get("details") or {}).get("causes") or ()
    return any(cause.get("reason") == NAMESPACE_TERMINATING for cause in causes)


def pod_from_template(template: Object, owner: Object, reference: Object) -> Object:
    """The pod to create: the template's labels, annotations, finalizers and spec; its name is made by the server."""
    meta = template.get("metadata") or {}
    wanted: Object = {
        "generateName": pod_prefix(name_of(owner)),
        "ownerReferences": [reference],
        "labels": dict(meta.get("labels") or {}),
    }
    if meta.get("annotations"):
        wanted["annotations"] = dict(meta["annotations"])
    if meta.get("finalizers"):
        wanted["finalizers"] = list(meta["finalizers"])
    return {"kind": "Pod", "apiVersion": "v1", "metadata": wanted, "spec": copy(template.get("spec") or {})}


def pod_prefix(controller: str) -> str:
    """``name-``, if that is a valid prefix of a pod's name."""
    return f"{controller}-" if len(controller) < 253 else controller


class PodControl:
    """Creates and deletes pods for a controller object, and records what it did."""

    def __init__(self, client: Client, recorder: EventRecorder) -> None:
        self._client, self._recorder = client, recorder

    async def create(self, namespace: str, pod: Object, owner: Object) -> Object:
        if not pod["metadata"].get("labels"):
            raise ValueError("unable to create pods, no labels")
        try:
            created = await self._client.create(PODS, pod, namespace=namespace)
        except errors.ApiError as error:
            if not namespace_is_terminating(error):
                self._recorder.event(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")
            raise
        self._recorder.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {name_of(created)}")
        return created

    async def delete(self, namespace: str, name: str, owner: Object) -> None:
        """Raises ``NotFound`` if the pod is gone already."""
        try:
            await self._client.delete(PODS, name, namespace)
        except errors.NotFound:
            raise
        except errors.ApiError as error:
            self._recorder.event(owner, "Warning", "FailedDelete", f"Error deleting: {error.message}")
            raise
        self._recorder.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")


async def slow_start(count: int, action: Callable[[int], Awaitable[None]]) -> tuple[int, Exception | None]:
    """Call ``action(0)`` … ``action(count - 1)`` in batches of 1, 2, 4, …; stop after a batch in which one failed.

    Returns how many succeeded, and the first failure. So a quota that refuses pods is asked once, not 500 times.
    """
    succeeded, size = 0, 1
    started = 0
    while started < count:
        batch = range(started, min(started + size, count))
        results = await asyncio.gather(*(action(number) for number in batch), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        succeeded += len(batch) - len(failures)
        if failures:
            return succeeded, _as_exception(failures[0])
        started += len(batch)
        size *= 2
    return succeeded, None


def _as_exception(error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    raise error
