"""Sends pods' statuses to the API server: at once, one request at a time for each pod, the newest status only.

A status that changes while a request is under way goes out with the next one. When a pod that is being deleted has been
stopped and its last status is sent, the manager deletes it for good.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import PODS
from tiphys.client.rest import STRATEGIC_MERGE, Client
from tiphys.controlkit.objects import equal
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.status.conditions import OWNED
from tiphys.kubelet.status.messages import shortened
from tiphys.runtime.clock import Clock, backoff
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

_TERMINAL = ("Succeeded", "Failed")
_FOREIGN = ("resourceClaimStatuses", "extendedResourceClaimStatus", "nominatedNodeName", "resize")
RECONCILE_SECONDS = 10.0
"""As upstream's status manager."""
_SHARED = "DisruptionTarget"


@dataclass(slots=True)
class _Entry:
    pod: Pod
    status: Object
    version: int = 1
    sent: int = 0
    finished: bool = False
    """The pod has been stopped and cleaned up: this status is the last."""
    busy: bool = False
    doubted: bool = False
    """Somebody else wrote what is the kubelet's to say: it is to be said again."""


class StatusManager:
    """``current(pod)`` gives the pod as the API shows it now (for a static pod its mirror), or None if it is gone."""

    def __init__(
        self,
        *,
        client: Client,
        clock: Clock,
        runner: Runner,
        current: Callable[[Pod], Pod | None],
        could_run: Callable[[str], bool],
    ) -> None:
        self._client = client
        self._clock = clock
        self._runner = runner
        self._current = current
        self._could_run = could_run
        self._entries: dict[str, _Entry] = {}

    def get(self, pod_uid: str) -> Object | None:
        """The newest status, sent or not."""
        entry = self._entries.get(pod_uid)
        return entry.status if entry else None

    def set(self, pod: Pod, status: Object, *, finished: bool = False) -> None:
        """Note a status; it is sent at once if it says anything new."""
        uid, status = pods.uid_of(pod), shortened(pod, status)
        entry = self._entries.get(uid)
        if entry is None:
            entry = self._entries[uid] = _Entry(pod, status)
        else:
            entry.pod = pod
            if finished and not entry.finished:
                entry.finished = True
            elif equal(entry.status, status):
                return
            entry.status = status
            entry.version += 1
        entry.finished = entry.finished or finished
        self._kick(uid, entry)

    def finish(self, pod: Pod) -> None:
        """The pod is stopped and cleaned up: make its last status terminal, and let it be deleted."""
        uid = pods.uid_of(pod)
        status = dict(self.get(uid) or pod.get("status") or {})
        if status.get("containerStatuses") and _initialized(pod, status):
            status["containerStatuses"] = [_ended(c) for c in status["containerStatuses"]]
        if not pods.is_static(pod) and status.get("phase") not in _TERMINAL:
            status["phase"] = "Failed"
        self.set(pod, status, finished=True)

    def api_changed(self, pod_uid: str) -> None:
        """The API shows another version of the pod: see whether a deletion that waited for it can continue, and whether
        it shows what was sent. The node lifecycle controller writes that pods of a silent node are not ready."""
        entry = self._entries.get(pod_uid)
        if entry is None:
            return
        if entry.finished or entry.sent < entry.version:
            self._kick(pod_uid, entry)
        elif not (entry.doubted or entry.busy) and self._patch(entry) is not None:
            entry.doubted = True
            self._runner.spawn(self._say_again(pod_uid, entry), f"status of {pods.key_of(entry.pod)}, again")

    async def _say_again(self, uid: str, entry: _Entry) -> None:
        """Not at once: two that write against each other should not keep the API server busy."""
        await self._clock.sleep(RECONCILE_SECONDS)
        entry.doubted = False
        if self._entries.get(uid) is entry:
            self._kick(uid, entry)

    def forget(self, pod_uid: str) -> None:
        self._entries.pop(pod_uid, None)

    def _kick(self, uid: str, entry: _Entry) -> None:
        if not entry.busy:
            entry.busy = True
            self._runner.spawn(self._send_until_current(uid, entry), f"status of {pods.key_of(entry.pod)}")

    async def _send_until_current(self, uid: str, entry: _Entry) -> None:
        delays = backoff(0.2, 2, 10)
        try:
            while self._entries.get(uid) is entry:
                version, finished = entry.version, entry.finished
                try:
                    if not await self._send(entry):
                        return
                except (errors.ApiError, ConnectionError, TimeoutError) as error:
                    log.warning("cannot send the status of pod %s: %s", pods.key_of(entry.pod), error)
                    await self._clock.sleep(next(delays))
                    continue
                except Exception:
                    log.exception("sending the status of pod %s failed", pods.key_of(entry.pod))
                    await self._clock.sleep(next(delays))
                    continue
                entry.sent = version
                if entry.version == version and entry.finished == finished:
                    return
        finally:
            entry.busy = False

    async def _send(self, entry: _Entry) -> bool:
        """Patch the status, and delete a finished pod that may be deleted. False if the API does not show the pod, as
        it may not show a static pod yet: ``api_changed`` sends what is left."""
        shown = self._current(entry.pod)
        if shown is None:
            return False
        if patch := self._patch(entry):
            try:
                shown = await self._client.patch(
                    PODS,
                    pods.name_of(shown),
                    patch,
                    pods.namespace_of(shown),
                    type=STRATEGIC_MERGE,
                    subresource="status",
                )
            except errors.NotFound:
                return True
            except errors.Conflict:
                log.debug("pod %s was replaced by another of its name", pods.key_of(shown))
                return True
        if entry.finished and _may_be_deleted(shown):
            try:
                await self._client.delete(
                    PODS, pods.name_of(shown), pods.namespace_of(shown), uid=pods.uid_of(shown), grace=0
                )
            except (errors.NotFound, errors.Conflict):
                return True
        return True

    def _patch(self, entry: _Entry) -> Object | None:
        """What brings the status that the API shows to the newest one; None if they agree, or the pod is not shown."""
        shown = self._current(entry.pod)
        if shown is None:
            return None
        could_run = not entry.finished and self._could_run(pods.uid_of(entry.pod))
        return status_patch(shown, entry.status, could_run=could_run)


def _may_be_deleted(shown: Pod) -> bool:
    return pods.is_deleting(shown) and not pods.is_mirror(shown) and pods.is_terminal(shown)


def _ended(container: Object) -> Object:
    if "terminated" in (container.get("state") or {}):
        return container
    return {
        **container,
        "ready": False,
        "started": False,
        "state": {
            "terminated": {
                "exitCode": 137,
                "reason": "ContainerStatusUnknown",
                "message": "The container could not be located when the pod was terminated",
                "startedAt": None,
                "finishedAt": None,
            }
        },
    }


def _initialized(pod: Pod, status: Object) -> bool:
    """Whether a regular container may have run: those whose end nobody saw are then reported as failed."""
    if not pods.init_containers(pod):
        return True
    return any(
        (c.get("lastState") or {}).get("terminated") or "waiting" not in (c.get("state") or {})
        for c in status.get("containerStatuses") or []
    )


def status_patch(shown: Pod, status: Object, *, could_run: bool) -> Object | None:
    """The strategic merge patch from the status that the API shows to ``status``; None if they agree.

    A pod whose containers may still be running is not reported as Succeeded or Failed: others would take its place.
    """
    before = shown.get("status") or {}
    wanted = dict(status)
    if wanted.get("phase") in _TERMINAL and before.get("phase") not in _TERMINAL and could_run:
        for name in ("phase", "reason", "message"):
            wanted.pop(name, None)
            if before.get(name):
                wanted[name] = before[name]
    wanted["conditions"] = _merge_conditions(
        before.get("conditions") or [],
        status.get("conditions") or [],
        terminal=wanted.get("phase") in _TERMINAL and not could_run,
    )
    changes: Object = {}
    for name in before.keys() | wanted.keys():
        if name in _FOREIGN or name == "conditions" or equal(before.get(name), wanted.get(name)):
            continue
        value = wanted.get(name)
        if name in ("podIPs", "hostIPs") and value and before.get(name):
            value = [{"$patch": "replace"}, *value]
        changes[name] = value
    changes |= _condition_changes(before.get("conditions") or [], wanted["conditions"])
    return {"metadata": {"uid": pods.uid_of(shown)}, "status": changes} if changes else None


def _merge_conditions(before: Sequence[Object], own: Sequence[Object], *, terminal: bool) -> list[Object]:
    conditions = [c for c in before if c["type"] not in OWNED]
    for condition in own:
        if condition["type"] in OWNED:
            conditions.append(condition)
        elif condition["type"] == _SHARED and terminal:
            conditions = [c for c in conditions if c["type"] != _SHARED] + [condition]
    return conditions


def _condition_changes(before: Sequence[Object], wanted: Sequence[Object]) -> Object:
    old = {condition["type"]: condition for condition in before}
    changed: list[Object] = []
    for condition in wanted:
        known = old.get(condition["type"])
        if known is None or not equal(known, condition):
            removed = {name: None for name in (known or {}) if name not in condition}
            changed.append({**condition, **removed})
    gone = [{"$patch": "delete", "type": name} for name in old if name not in {c["type"] for c in wanted}]
    if not changed and not gone:
        return {}
    order = [{"type": condition["type"]} for condition in wanted]
    return {"$setElementOrder/conditions": order, "conditions": [*changed, *gone]}
