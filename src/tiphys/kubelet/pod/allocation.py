"""What the node has given each pod: the resources that were admitted, kept beside the pod's folder until it is gone.

A pod's spec says what it asks for; a resize that the node defers sets that and what it was given apart. All that the
kubelet does counts on what was given: limits of containers that start, cgroups, and what is left for other pods. It
survives a restart of the kubelet. Source: KEP-1287.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from tiphys.api.object import Object
from tiphys.controlkit.objects import equal
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod

log = logging.getLogger(__name__)

_FILE = "allocation.json"
_FIELDS = ("initContainers", "containers")


def resources_of(pod: Pod) -> Object:
    """What a pod's spec asks for: by container, and for the pod whole."""
    spec = pods.spec_of(pod)
    return {
        "pod": spec.get("resources") or {},
        "containers": {
            container["name"]: container.get("resources") or {}
            for field in _FIELDS
            for container in spec.get(field) or []
        },
    }


def with_resources(pod: Pod, given: Object) -> Pod:
    """The pod as it is with the resources that it was given; the same object if it asks for no other."""
    if equal(resources_of(pod), given):
        return pod
    spec = dict(pods.spec_of(pod))
    if given["pod"] or "resources" in spec:
        spec["resources"] = given["pod"]
    for field in _FIELDS:
        if spec.get(field):
            spec[field] = [
                {**container, "resources": given["containers"].get(container["name"], container.get("resources") or {})}
                for container in spec[field]
            ]
    return {**pod, "spec": spec}


def summary(pod: Pod, error: str = "") -> str:
    """The resources of a pod as events of a resize show them."""
    document: Object = {}
    for field in _FIELDS:
        parts = [
            {"name": container["name"], "resources": container.get("resources") or {}}
            for container in pods.spec_of(pod).get(field) or []
        ]
        if parts:
            document[field] = parts
    document["generation"] = pod["metadata"].get("generation") or 0
    if error:
        document["error"] = error
    return json.dumps(document, separators=(",", ":"))


class Allocations:
    """``root`` is the kubelet's folder. A pod that was never given anything has what it asks for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._given: dict[str, Object | None] = {}

    def applied(self, pod: Pod) -> Pod:
        """The pod with what it was given in the place of what it asks for."""
        given = self._of(pods.uid_of(pod))
        return pod if given is None else with_resources(pod, given)

    def admit(self, pod: Pod) -> None:
        """The node takes the pod: what it asks for now is given, unless it was given something before. ``OSError``.

        The record is not forced to the disk: after a power cut a missing one means what the pod asks for, which is the
        same unless a resize was requested meanwhile, and no container has lived on to have less.
        """
        if self._of(pods.uid_of(pod)) is None:
            self._record(pod, durable=False)

    def give(self, pod: Pod) -> None:
        """From now on the pod has what it asks for. Raises ``OSError`` if that cannot be recorded."""
        self._record(pod, durable=True)

    def _record(self, pod: Pod, *, durable: bool) -> None:
        uid, given = pods.uid_of(pod), resources_of(pod)
        folder = self._root / "pods" / uid
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        temporary = folder / f".{_FILE}"
        with temporary.open("w") as file:
            json.dump(given, file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.rename(folder / _FILE)
        self._given[uid] = given

    def forget(self, uid: str) -> None:
        """The pod has ended; its record was removed with its folder."""
        self._given.pop(uid, None)

    def _of(self, uid: str) -> Object | None:
        if uid not in self._given:
            self._given[uid] = self._read(uid)
        return self._given[uid]

    def _read(self, uid: str) -> Object | None:
        try:
            record = json.loads((self._root / "pods" / uid / _FILE).read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("cannot read what pod %s was given: %s", uid, error)
            return None
        return record if isinstance(record, dict) and {"pod", "containers"} <= record.keys() else None
