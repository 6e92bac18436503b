"""A simulated node: what the API shows of a kubelet, without one.

It registers a Node, keeps its Lease, and carries its pods through their lives by the API alone: Running and Ready after
a start-up time, ended if the pod says so, gone when they are deleted. It does no I/O but the API's and keeps one
small record a pod, so thousands of them run in one process.

A pod says how it is to behave by annotations, so that tests can make it fail:

- ``tiphys.dev/start-seconds``: how long until it runs (default 0.1);
- ``tiphys.dev/run-seconds``: how long it runs; it ends then. Without it, it runs until it is deleted;
- ``tiphys.dev/exit-code``: with which status it ends (default 0);
- ``tiphys.dev/ready: "false"``: it never becomes ready.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from tiphys import KUBERNETES_VERSION
from tiphys.api.meta.timestamps import format_micro_time, format_time
from tiphys.api.object import Object
from tiphys.client.errors import AlreadyExists, ApiError, Conflict, NotFound
from tiphys.client.informer import Callbacks, Informer
from tiphys.client.resources import LEASES, NODES, PODS
from tiphys.client.rest import STRATEGIC_MERGE, Client
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)


PREFIX = "tiphys.dev/"
CAPACITY = {"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"}
LEASE_SECONDS, RENEW_SECONDS, STATUS_SECONDS = 40, 10.0, 300.0


class SimulatedNode:
    """One node. ``run`` plays its kubelet until it is cancelled; a cancelled one looks to the cluster like a dead node.

    ``capacity`` and ``labels`` are the Node's. ``address_prefix`` makes pod addresses: ``PREFIX.N``.
    """

    def __init__(
        self,
        name: str,
        client: Client,
        clock: Clock,
        *,
        capacity: Mapping[str, str] = CAPACITY,
        labels: Mapping[str, str] = {},
        address: str = "198.51.100.1",
        address_prefix: str = "10.244.0",
    ) -> None:
        self.name = name
        self._client = client
        self._clock = clock
        self._capacity = dict(capacity)
        self._labels = dict(labels)
        self._address = address
        self._address_prefix = address_prefix
        self._pods = Informer(client, PODS, clock, field_selector=f"spec.nodeName={name}")
        self._pods.add_handler(Callbacks(added=self._changed, updated=lambda _, pod: self._changed(pod)))
        self._playing: dict[str, asyncio.Task[None]] = {}
        self._deleting: dict[str, asyncio.Event] = {}
        self._addresses = 0
        self._runner = Runner(clock, f"{name} ")

    async def run(self) -> None:
        async with self._runner:
            await self._register()
            self._runner.supervise(self._pods.run, "pods")
            self._runner.supervise(self._keep_lease, "lease")
            self._runner.supervise(self._keep_status, "status")
            await asyncio.Event().wait()

    # The Node and its Lease

    async def _register(self) -> None:
        labels = {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": labels | self._labels}}
        try:
            await self._client.create(NODES, node)
        except AlreadyExists:
            log.debug("node %s is there already", self.name)
        await self._report_status()

    async def _keep_status(self) -> None:
        while True:
            await self._clock.sleep(STATUS_SECONDS)
            await self._report_status()

    async def _report_status(self) -> None:
        now = format_time(self._clock.now())
        healthy = {"lastHeartbeatTime": now, "lastTransitionTime": now}
        conditions = [
            {"type": pressure, "status": "False", "reason": f"KubeletHasNo{pressure}", "message": "", **healthy}
            for pressure in ("MemoryPressure", "DiskPressure", "PIDPressure")
        ]
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "simulated node is ready"}
        status = {
            "capacity": self._capacity,
            "allocatable": self._capacity,
            "conditions": [*conditions, ready | healthy],
            "addresses": [
                {"type": "InternalIP", "address": self._address},
                {"type": "Hostname", "address": self.name},
            ],
            "nodeInfo": _node_info(self.name),
        }
        await self._client.patch(NODES, self.name, {"status": status}, type=STRATEGIC_MERGE, subresource="status")

    async def _keep_lease(self) -> None:
        while True:
            await self._renew()
            await self._clock.sleep(RENEW_SECONDS)

    async def _renew(self) -> None:
        spec = {
            "holderIdentity": self.name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": format_micro_time(self._clock.now()),
        }
        try:
            await self._client.patch(LEASES, self.name, {"spec": spec}, "kube-node-lease")
        except NotFound:
            lease = {"metadata": {"name": self.name, "namespace": "kube-node-lease"}, "spec": spec}
            await self._client.create(LEASES, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **lease})

    # Pods

    def _changed(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._playing:
            self._deleting[uid] = asyncio.Event()
            task = self._runner.spawn(self._play(pod), f"pod {pod['metadata']['name']}")
            self._playing[uid] = task
            task.add_done_callback(lambda _: (self._playing.pop(uid, None), self._deleting.pop(uid, None)))
        if pod["metadata"].get("deletionTimestamp"):
            self._deleting[uid].set()

    async def _play(self, pod: Object) -> None:
        """A pod's life, from binding to its end."""
        meta = pod["metadata"]
        behaviour = meta.get("annotations") or {}
        if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            await self._live(pod, behaviour)
        await self._deleting[meta["uid"]].wait()
        await self._remove(pod)

    async def _live(self, pod: Object, behaviour: Mapping[str, str]) -> None:
        deleted = self._deleting[pod["metadata"]["uid"]]
        if await self._passes(deleted, float(behaviour.get(PREFIX + "start-seconds", "0.1"))):
            return
        self._addresses += 1
        started = format_time(self._clock.now())
        address = f"{self._address_prefix}.{self._addresses % 250 + 2}"
        ready = behaviour.get(PREFIX + "ready") != "false"
        await self._report(pod, running_status(pod, address, self._address, started, ready=ready))
        run_seconds = behaviour.get(PREFIX + "run-seconds")
        if run_seconds is None or await self._passes(deleted, float(run_seconds)):
            return
        code = int(behaviour.get(PREFIX + "exit-code", "0"))
        ended = format_time(self._clock.now())
        await self._report(pod, ended_status(pod, started, ended, code))

    async def _passes(self, deleted: asyncio.Event, seconds: float) -> bool:
        """Wait; returns early, with True, if the pod is to be deleted."""
        try:
            async with asyncio.timeout(seconds):
                await deleted.wait()
        except TimeoutError:
            return False
        return True

    async def _report(self, pod: Object, status: Object) -> None:
        meta = pod["metadata"]
        patch = {"metadata": {"uid": meta["uid"]}, "status": status}
        try:
            await self._client.patch(
                PODS, meta["name"], patch, meta["namespace"], type=STRATEGIC_MERGE, subresource="status"
            )
        except (NotFound, Conflict):
            log.debug("pod %s/%s is gone", meta["namespace"], meta["name"])

    async def _remove(self, pod: Object) -> None:
        meta = pod["metadata"]
        try:
            await self._client.delete(PODS, meta["name"], meta["namespace"], uid=meta["uid"], grace=0)
        except (NotFound, Conflict):
            log.debug("pod %s/%s is gone", meta["namespace"], meta["name"])
        except ApiError as error:
            log.warning("cannot remove pod %s/%s: %s", meta["namespace"], meta["name"], error)


def running_status(pod: Object, address: str, host: str, now: str, *, ready: bool) -> Object:
    """The status of a pod whose containers run since ``now``."""
    state = {"running": {"startedAt": now}}
    return {
        "phase": "Running",
        "hostIP": host,
        "hostIPs": [{"ip": host}],
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": now,
        "conditions": _conditions(now, ready=ready),
        "containerStatuses": [_container(c, state, ready=ready, started=True) for c in pod["spec"]["containers"]],
    }


def ended_status(pod: Object, started: str, now: str, code: int) -> Object:
    """The status of a pod whose containers ended with ``code``."""
    reason = "Error" if code else "Completed"
    ended = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": now}
    return {
        "phase": "Failed" if code else "Succeeded",
        "conditions": _conditions(now, ready=False, reason="PodFailed" if code else "PodCompleted"),
        "containerStatuses": [
            _container(c, {"terminated": ended}, ready=False, started=False) for c in pod["spec"]["containers"]
        ],
    }


def _conditions(now: str, reason: str = "", *, ready: bool) -> list[Object]:
    states = {"PodReadyToStartContainers": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
    why = {"reason": reason} if reason else {}
    return [
        {"type": type, "status": "True" if on else "False", "lastTransitionTime": now, **({} if on else why)}
        for type, on in states.items()
    ]


def _container(spec: Object, state: Object, *, ready: bool, started: bool) -> Object:
    return {
        "name": spec["name"],
        "image": spec.get("image", ""),
        "imageID": spec.get("image", ""),
        "ready": ready,
        "started": started,
        "restartCount": 0,
        "state": state,
    }


def _node_info(name: str) -> Object:
    return {
        "architecture": "amd64",
        "bootID": name,
        "containerRuntimeVersion": "simulated://1",
        "kernelVersion": "0",
        "kubeProxyVersion": "",
        "kubeletVersion": KUBERNETES_VERSION,
        "machineID": name,
        "operatingSystem": "linux",
        "osImage": "simulated",
        "systemUUID": name,
    }
