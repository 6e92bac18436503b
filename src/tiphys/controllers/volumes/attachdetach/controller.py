"""Reads which pods need a volume and where it is attached, decides, and writes VolumeAttachments and nodes' statuses.

The key is a volume's unique name. A node's ``volumesAttached`` says what its kubelet may mount: a volume goes out of
it before it is detached. Source:
https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/volume-attachment-v1/
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from tiphys.api.object import Object
from tiphys.api.volumes.attachments import attachment_name, may_be_on_several_nodes, unique_name_of
from tiphys.api.volumes.claims import claims_of
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import (
    CSI_DRIVERS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    VOLUME_ATTACHMENTS,
)
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.controller import Result
from tiphys.controlkit.objects import annotations_of, is_deleting, name_of, namespace_of, split_key, status_of
from tiphys.controlkit.retry import TryAgain
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.volumes.attachdetach.plan import Attachment, Detachment, Plan, make_plan, state_of
from tiphys.controllers.volumes.podclaims import BY_CLAIM, index_by_claim
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

_MANAGED = "volumes.kubernetes.io/controller-managed-attach-detach"
_KEEP_TERMINATED = "volumes.kubernetes.io/keep-terminated-pod-volumes"
_BY_UNIQUE_NAME = "unique-name"
_BY_VOLUME = "persistent-volume"
_BY_NODE = "node"


class AttachDetachController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._by_timeout = not context.config.disable_force_detach_on_timeout
        self._recorder = context.recorder.named("attachdetach-controller")
        informer = context.informers.informer
        self._pods, self._nodes = informer(PODS), informer(NODES)
        self._claims, self._volumes = informer(PERSISTENT_VOLUME_CLAIMS), informer(PERSISTENT_VOLUMES)
        self._attachments, self._drivers = informer(VOLUME_ATTACHMENTS), informer(CSI_DRIVERS)
        index_by_claim(self._pods)
        self._volumes.add_index(_BY_UNIQUE_NAME, lambda volume: [name] if (name := unique_name_of(volume)) else [])
        self._attachments.add_index(_BY_VOLUME, lambda obj: [name] if (name := _volume_of(obj)) else [])
        self._attachments.add_index(_BY_NODE, lambda obj: [obj["spec"]["nodeName"]])
        self._unwanted_since: dict[tuple[str, str], float] = {}
        self._leaving: set[str] = set()
        """Names of attachments that are being detached: nothing may mount their volumes any more."""
        self._blocked: set[tuple[str, str]] = set()
        """(volume, node) that an event has been written about."""
        self._controller = context.controller("attachdetach", self.reconcile, workers=4)
        self._statuses = context.controller("attachdetach_nodes", self.report)
        self._follow()

    def _follow(self) -> None:
        """Which volumes to look at again, by what has changed."""
        self._controller.watches(self._pods, self._volumes_of_pod)
        self._controller.watches(self._claims, self._volumes_of_claim)
        self._controller.watches(self._volumes, lambda volume: [name] if (name := unique_name_of(volume)) else [])
        self._controller.watches(self._attachments, self._volumes_of_attachment)
        self._controller.watches(self._drivers, self._volumes_of_driver)
        self._controller.handles(
            self._attachments, Callbacks(added=_nothing, updated=self._outcome, deleted=self._attachment_gone)
        )
        changed = Callbacks(added=self._node_changed, updated=self._node_updated, deleted=self._node_changed)
        self._controller.handles(self._nodes, changed)
        self._statuses.watches(self._attachments, lambda obj: [obj["spec"]["nodeName"]])
        self._statuses.reads(self._nodes)
        self._statuses.reads(self._volumes)

    async def run(self) -> None:
        async with Runner(self._clock, "attachdetach ") as runner:
            runner.supervise(self._statuses.run, "statuses")
            await self._controller.run()

    # Which volumes an object is about

    def _volumes_of_pod(self, pod: Object) -> Iterable[str]:
        for key in claims_of(pod) if podkit.node_of(pod) else ():
            claim = self._claims.store.get(*split_key(key))
            if claim is not None:
                yield from self._volumes_of_claim(claim)

    def _volumes_of_claim(self, claim: Object) -> Iterable[str]:
        volume = self._volumes.store.get("", claim["spec"].get("volumeName") or "")
        if volume is not None and (name := unique_name_of(volume)):
            yield name

    def _volumes_of_attachment(self, attachment: Object) -> Iterable[str]:
        volume = self._volumes.store.get("", _volume_of(attachment))
        if volume is not None and (name := unique_name_of(volume)):
            yield name

    def _volumes_of_driver(self, driver: Object) -> Iterable[str]:
        for volume in self._volumes.store.list():
            if (volume["spec"].get("csi") or {}).get("driver") == name_of(driver):
                yield unique_name_of(volume)

    def _node_changed(self, node: Object) -> None:
        for attachment in self._attachments.store.by_index(_BY_NODE, name_of(node)):
            for volume in self._volumes_of_attachment(attachment):
                self._controller.queue.add(volume)
        self._statuses.queue.add(name_of(node))

    def _node_updated(self, old: Object, new: Object) -> None:
        """A node's heartbeat is no news."""
        if [state_of(old, ""), _in_use(old)] != [state_of(new, ""), _in_use(new)]:
            self._node_changed(new)

    def _attachment_gone(self, attachment: Object) -> None:
        self._leaving.discard(name_of(attachment))

    def _outcome(self, old: Object, new: Object) -> None:
        """Report to pods what has become of an attachment that they wait for."""
        before, after = status_of(old), status_of(new)
        if after.get("attached") and not before.get("attached"):
            self._report_outcome(new, attached=True)
        elif after.get("attachError") and after.get("attachError") != before.get("attachError"):
            self._report_outcome(new, attached=False)

    # Volumes

    async def reconcile(self, key: str) -> Result | None:
        """Attach a volume to the nodes that want it, and detach it from others. ``key`` is its unique name."""
        volumes = self._volumes.store.by_index(_BY_UNIQUE_NAME, key)
        if not volumes:
            return None
        volume = volumes[0]
        existing = {
            each["spec"]["nodeName"]: each
            for each in self._attachments.store.by_index(_BY_VOLUME, name_of(volume))
            if name_of(each) == _name_for(volume, each["spec"]["nodeName"])  # others' are others' to remove
        }
        pods = self._pods_by_node(volume) if self._needs_attachment(volume) else {}
        plan = make_plan(
            wanted=pods.keys(),
            attachments={node: _attachment(each) for node, each in existing.items()},
            nodes={node: state_of(self._nodes.store.get("", node), key) for node in existing},
            unwanted_for=self._unwanted_for(key, existing, pods),
            exclusive=not may_be_on_several_nodes(volume),
            by_timeout=self._by_timeout,
        )
        self._report_blocked(key, volume, plan, pods, existing)
        for detachment in plan.detach:
            await self._detach(key, existing[detachment.node], detachment)
        for node in plan.attach:
            await self._attach(volume, node)
        return None if plan.again is None else Result(after=plan.again)

    def _needs_attachment(self, volume: Object) -> bool:
        driver = self._drivers.store.get("", volume["spec"]["csi"]["driver"])
        return driver is None or driver["spec"].get("attachRequired") is not False

    def _pods_by_node(self, volume: Object) -> dict[str, list[Object]]:
        """The pods that need the volume, by the node that they are on, if its attachments are this controller's."""
        reference = volume["spec"].get("claimRef") or {}
        claim = self._claims.store.get(reference.get("namespace", ""), reference.get("name", ""))
        if claim is None or claim["spec"].get("volumeName") != name_of(volume):
            return {}
        pods: dict[str, list[Object]] = {}
        for pod in self._pods.store.by_index(BY_CLAIM, f"{namespace_of(claim)}/{name_of(claim)}"):
            node = self._nodes.store.get("", podkit.node_of(pod))
            if node is not None and _MANAGED in annotations_of(node) and _needs_volumes(pod, node):
                pods.setdefault(name_of(node), []).append(pod)
        return pods

    def _unwanted_for(self, key: str, existing: Iterable[str], wanted: Iterable[str]) -> dict[str, float]:
        now, unwanted = self._clock.monotonic(), set(existing) - set(wanted)
        for node in unwanted:
            self._unwanted_since.setdefault((key, node), now)
        for entry in [entry for entry in self._unwanted_since if entry[0] == key and entry[1] not in unwanted]:
            del self._unwanted_since[entry]
        return {node: now - self._unwanted_since[key, node] for node in unwanted}

    async def _attach(self, volume: Object, node: str) -> None:
        source = volume["spec"]["csi"]
        attachment = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "VolumeAttachment",
            "metadata": {"name": _name_for(volume, node)},
            "spec": {
                "attacher": source["driver"],
                "nodeName": node,
                "source": {"persistentVolumeName": name_of(volume)},
            },
        }
        try:
            await self._client.create(VOLUME_ATTACHMENTS, attachment)
        except errors.AlreadyExists as error:
            raise TryAgain(
                f"attachment of {name_of(volume)} to {node} is not seen yet, or is on its way out"
            ) from error

    async def _detach(self, key: str, attachment: Object, detachment: Detachment) -> None:
        """The node may no longer mount the volume; if it has it mounted all the same, it keeps it."""
        name = name_of(attachment)
        self._leaving.add(name)
        try:
            await self.report(detachment.node)
            if detachment.verify and await self._is_mounted(key, detachment.node):
                raise TryAgain(f"volume {key} is still mounted on {detachment.node}")
            if detachment.reason:
                log.warning("detaching %s from %s by force: %s", key, detachment.node, detachment.reason)
            await self._client.delete(VOLUME_ATTACHMENTS, name)
        except errors.NotFound:
            return
        except BaseException:
            self._leaving.discard(name)
            self._statuses.queue.add(detachment.node)
            raise

    async def _is_mounted(self, key: str, node: str) -> bool:
        """What the node says at this moment; one that is gone says nothing."""
        try:
            return state_of(await self._client.get(NODES, node), key).mounted
        except errors.NotFound:
            return False

    # Events

    def _report_blocked(
        self, key: str, volume: Object, plan: Plan, pods: dict[str, list[Object]], existing: dict[str, Object]
    ) -> None:
        for entry in [entry for entry in self._blocked if entry[0] == key and entry[1] not in plan.blocked]:
            self._blocked.discard(entry)
        users = [pod for node in existing for pod in pods.get(node, ())]
        for node in plan.blocked:
            if existing and (key, node) not in self._blocked:
                self._blocked.add((key, node))
                for pod in pods[node]:
                    message = f'Multi-Attach error for volume "{name_of(volume)}" {_why_blocked(pod, users)}'
                    self._recorder.event(pod, "Warning", "FailedAttachVolume", message)

    def _report_outcome(self, attachment: Object, *, attached: bool) -> None:
        volume = self._volumes.store.get("", _volume_of(attachment))
        if volume is None:
            return
        why = (status_of(attachment).get("attachError") or {}).get("message", "")
        for pod in self._pods_by_node(volume).get(attachment["spec"]["nodeName"], ()):
            if attached:
                message = f'AttachVolume.Attach succeeded for volume "{name_of(volume)}" '
                self._recorder.event(pod, "Normal", "SuccessfulAttachVolume", message)
            else:
                message = f'AttachVolume.Attach failed for volume "{name_of(volume)}" : {why}'
                self._recorder.event(pod, "Warning", "FailedAttachVolume", message)

    # Nodes

    async def report(self, node_name: str) -> None:
        """Bring what a node may mount in line with what is attached to it."""
        node = self._nodes.store.get("", node_name)
        if node is None:
            return
        attached = []
        for attachment in self._attachments.store.by_index(_BY_NODE, node_name):
            volume = self._volumes.store.get("", _volume_of(attachment))
            leaves = is_deleting(attachment) or name_of(attachment) in self._leaving
            if volume is not None and not leaves and status_of(attachment).get("attached"):
                attached.append({"name": unique_name_of(volume), "devicePath": ""})
        attached.sort(key=lambda each: each["name"])
        if attached == sorted(status_of(node).get("volumesAttached") or [], key=lambda each: str(each["name"])):
            return
        try:
            patch = {"status": {"volumesAttached": attached or None}}
            await self._client.patch(NODES, node_name, patch, subresource="status")
        except errors.NotFound:
            return


def _volume_of(attachment: Object) -> str:
    return str((attachment["spec"].get("source") or {}).get("persistentVolumeName") or "")


def _name_for(volume: Object, node: str) -> str:
    source = volume["spec"]["csi"]
    return attachment_name(source["driver"], source["volumeHandle"], node)


def _attachment(obj: Object) -> Attachment:
    return Attachment(attached=bool(status_of(obj).get("attached")), leaving=is_deleting(obj))


def _in_use(node: Object) -> list[str]:
    return sorted(status_of(node).get("volumesInUse") or [])


def _needs_volumes(pod: Object, node: Object) -> bool:
    """A pod that has ended needs none, unless its node is set to keep them."""
    statuses = [
        each
        for field in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
        for each in status_of(pod).get(field) or []
    ]
    stopped = all(not {"terminated", "waiting"}.isdisjoint(each.get("state") or {}) for each in statuses)
    ended = podkit.is_finished(pod) or (is_deleting(pod) and stopped)
    return not ended or annotations_of(node).get(_KEEP_TERMINATED) == "true"


def _why_blocked(pod: Object, users: list[Object]) -> str:
    """Names are of the pod's own namespace only: its users need not know of others."""
    near = [name_of(each) for each in users if namespace_of(each) == namespace_of(pod)]
    far = len(users) - len(near)
    if not users:
        return "Volume is already exclusively attached to one node and can't be attached to another"
    if not near:
        return f"Volume is already used by {far} pod(s) in different namespaces"
    more = f" and {far} pod(s) in different namespaces" if far else ""
    return f"Volume is already used by pod(s) {', '.join(near)}{more}"


def _nothing(obj: Object) -> None:
    """A new attachment has come to nothing yet."""
