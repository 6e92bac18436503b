"""Prepares the claims of a pod before it starts, and has them undone when the last pod that uses them has ended.

What drivers have been asked for is written down before they are asked. Source:
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

from tiphys.api.meta.objects import status_of, uid_of
from tiphys.api.meta.quantity import parse
from tiphys.api.object import Object
from tiphys.api.volumes.claims import is_of
from tiphys.client import errors
from tiphys.client.resources import RESOURCE_CLAIMS
from tiphys.client.rest import Client
from tiphys.kubelet import checkpoints
from tiphys.kubelet.checkpoints import CheckpointCorrupt
from tiphys.kubelet.dra.claims import ClaimInfo, claim_info, from_checkpoint, to_checkpoint
from tiphys.kubelet.dra.drivers import ClaimFailed, Driver, DriverMissing, Drivers
from tiphys.kubelet.dra.health import DeviceHealth, Place
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.topology.failures import AssignmentFailure
from tiphys.wire.grpc.caller import describe
from tiphys.wire.grpc.stream import GrpcError

log = logging.getLogger(__name__)

CHECKPOINT = "dra_manager_state"
SWEEP_PERIOD = 60.0


class ClaimsNotPrepared(Exception):
    """The claims of a pod cannot be prepared, or undone, now."""


class ClaimManager:
    """``root`` is the kubelet's folder."""

    def __init__(self, root: Path, client: Client, drivers: Drivers) -> None:
        self._path = root / CHECKPOINT
        self._client = client
        self._drivers = drivers
        self._claims: dict[tuple[str, str], ClaimInfo] = {}
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}

    def restore(self) -> None:
        """Read which claims were prepared before."""
        try:
            document = checkpoints.read(self._path)
            restored = from_checkpoint(document) if document is not None else []
        except (OSError, CheckpointCorrupt) as error:
            log.error("which claims are prepared is not known, as the checkpoint cannot be read: %s", error)
            return
        self._claims = {info.key: info for info in restored}

    # A pod is to start.

    async def prepare(self, pod: Pod) -> None:
        """Have all claims of a pod prepared. Raises ``ClaimsNotPrepared``."""
        if not pods.spec_of(pod).get("resourceClaims") and _extended(pod) is None:
            return
        try:
            wanted = [claim_info(claim) for claim in await self._allocated(pod)]
            drivers = {name: self._drivers.get(name) for info in wanted for name in info.drivers}
            async with self._locked(info.key for info in wanted):
                unprepared = self._enter(pods.uid_of(pod), wanted)
                await self._prepare(unprepared, drivers)
        except (errors.ApiError, ConnectionError, TimeoutError, DriverMissing, ClaimFailed, OSError) as error:
            raise ClaimsNotPrepared(f"prepare dynamic resources: {error}") from error
        except GrpcError as error:
            raise ClaimsNotPrepared(f"prepare dynamic resources: NodePrepareResources: {describe(error)}") from error

    async def _allocated(self, pod: Pod) -> list[Object]:
        """The pod's claims, as the API server has them. Raises ``ApiError``, ``ClaimFailed``."""
        claims = []
        for name, made_for_it in _names(pod):
            claim = await self._client.get(RESOURCE_CLAIMS, name, pods.namespace_of(pod))
            whose = f"pod {pods.name_of(pod)} ({pods.uid_of(pod)})"
            if made_for_it and not is_of(claim, pod):
                raise ClaimFailed(f"ResourceClaim {name} was not created for {whose} (Pod is not owner)")
            users = status_of(claim).get("reservedFor") or ()
            if not any(user["uid"] == pods.uid_of(pod) for user in users):
                raise ClaimFailed(f"{whose} is not allowed to use ResourceClaim {name} ({uid_of(claim)})")
            claims.append(claim)
        return claims

    def _enter(self, uid: str, wanted: Sequence[ClaimInfo]) -> list[ClaimInfo]:
        """Note that a pod uses the claims; returns those that are not prepared. Raises ``ClaimFailed``, ``OSError``."""
        infos = []
        for fresh in wanted:
            info = self._claims.setdefault(fresh.key, fresh)
            if info.uid != fresh.uid:
                message = f"old ResourceClaim with same name {info.name} and different UID {info.uid} still exists"
                raise ClaimFailed(f"{message} (previous pod force-deleted?!)")
            info.pods.add(uid)
            infos.append(info)
        self._write()
        return [info for info in infos if not info.prepared]

    async def _prepare(self, infos: Sequence[ClaimInfo], drivers: dict[str, Driver]) -> None:
        for name, driver in drivers.items():
            of_driver = [info for info in infos if name in info.drivers]
            if not of_driver:
                continue
            prepared = await driver.prepare(of_driver)
            for info in of_driver:
                info.drivers[name] = prepared[info.uid]
        for info in infos:
            info.prepared = True
        if infos:
            self._write()

    def cdi_of(self, pod: Pod, container: ContainerSpec) -> list[str]:
        """CDI names of the devices of a container's claims. Raises ``AssignmentFailure``."""
        names: list[str] = []
        for name, requests in _claims_of(pod, container):
            info = self._claims.get((pods.namespace_of(pod), name))
            if info is None:
                where = f"ResourceClaim {name} in namespace {pods.namespace_of(pod)}"
                raise AssignmentFailure(f"internal error: unable to get claim info for {where}")
            for request in requests:
                names += info.cdi_of(request)
        return names

    def used_by(self, pod: Pod, container: ContainerSpec) -> list[tuple[ClaimInfo, list[str]]]:
        """The claims of a container that are known here, with the names of the requests that it uses."""
        claims = [
            (self._claims.get((pods.namespace_of(pod), name)), names) for name, names in _claims_of(pod, container)
        ]
        return [(info, names) for info, names in claims if info is not None]

    def users_of(self, driver: str, devices: Collection[Place]) -> set[str]:
        """Uids of the pods that have some of a driver's devices."""
        users: set[str] = set()
        for info in self._claims.values():
            if any((device.pool, device.device) in devices for device in info.drivers.get(driver, ())):
                users |= info.pods
        return users

    def health(self, pod: Pod, container: ContainerSpec, health: Callable[[str, Place], DeviceHealth]) -> list[Object]:
        """How the devices of a container's claims fare, as ``allocatedResourcesStatus`` shows it."""
        statuses: dict[str, Object] = {}
        entries = {entry["name"]: entry for entry in pods.spec_of(pod).get("resourceClaims") or ()}
        for wanted in (container.get("resources") or {}).get("claims") or ():
            name, request = wanted["name"], wanted.get("request") or ""
            info = self._info(pod, entries.get(name))
            if info is None:
                continue
            title = f"claim:{name}/{request}" if request else f"claim:{name}"
            shown: dict[str, Object] = {}
            for driver, devices in sorted(info.drivers.items()):
                for device in (d for d in devices if d.is_for((request.partition("/")[0],))):
                    fares = health(driver, (device.pool, device.device))
                    identity = device.cdi[0] if device.cdi else f"{driver}/{device.pool}/{device.device}"
                    message = {"message": fares.message} if fares.message else {}
                    shown.setdefault(identity, {"resourceID": identity, "health": fares.health, **message})
            if shown:
                statuses[title] = {"name": title, "resources": list(shown.values())}
        return list(statuses.values())

    def _info(self, pod: Pod, entry: Object | None) -> ClaimInfo | None:
        try:
            name = claim_name(pod, entry) if entry is not None else None
        except ClaimFailed:
            return None
        return self._claims.get((pods.namespace_of(pod), name)) if name is not None else None

    def claims_of(self, uid: str) -> list[ClaimInfo]:
        return [info for info in self._claims.values() if uid in info.pods]

    # A pod has ended.

    async def unprepare(self, uid: str) -> None:
        """Undo what no other pod uses. Raises ``ClaimsNotPrepared``; it may be called again."""
        try:
            async with self._locked(info.key for info in self.claims_of(uid)):
                await self._unprepare(uid)
        except (DriverMissing, ClaimFailed, OSError) as error:
            raise ClaimsNotPrepared(f"unprepare dynamic resources: {error}") from error
        except GrpcError as error:
            text = describe(error)
            raise ClaimsNotPrepared(f"unprepare dynamic resources: NodeUnprepareResources: {text}") from error

    async def _unprepare(self, uid: str) -> None:
        infos = self.claims_of(uid)
        if not infos:
            return
        last = [info for info in infos if info.pods == {uid}]
        for name in sorted({name for info in last for name in info.drivers}):
            driver = self._drivers.get(name)
            for info in last:
                info.prepared = False  # whatever comes of it: who wants the claim has it prepared again
            await driver.unprepare([info for info in last if name in info.drivers])
        for info in infos:
            info.pods.discard(uid)
            if not info.pods:
                del self._claims[info.key]
        self._write()

    async def sweep(self, known: Callable[[], Collection[str]]) -> None:
        """Undo the claims of pods that are not there any more."""
        for uid in sorted({uid for info in self._claims.values() for uid in info.pods}):
            if uid in known():
                continue
            try:
                await self.unprepare(uid)
            except ClaimsNotPrepared as error:
                log.warning("claims of pod %s, which is gone: %s", uid, error)

    @contextlib.asynccontextmanager
    async def _locked(self, keys: Iterable[tuple[str, str]]) -> AsyncIterator[None]:
        """One at a time has to do with a claim: preparing it for one pod must not meet undoing it for another."""
        async with contextlib.AsyncExitStack() as stack:
            for key in sorted(set(keys)):
                await stack.enter_async_context(self._locks.setdefault(key, asyncio.Lock()))
            yield
        for key in [key for key, lock in self._locks.items() if key not in self._claims and not lock.locked()]:
            del self._locks[key]

    def _write(self) -> None:
        checkpoints.write(self._path, to_checkpoint(self._claims.values()))


def _extended(pod: Pod) -> Object | None:
    """What the scheduler says of the claim for the pod's extended resources behind which classes stand (KEP-5004)."""
    known: Object | None = (pod.get("status") or {}).get("extendedResourceClaimStatus")
    return known


def _names(pod: Pod) -> Iterator[tuple[str, bool]]:
    """The pod's claims, each with whether it was made for this pod. Raises ``ClaimFailed``."""
    for entry in pods.spec_of(pod).get("resourceClaims") or ():
        name = claim_name(pod, entry)
        if name is not None:
            yield name, entry.get("resourceClaimName") is None
    if (extended := _extended(pod)) is not None:
        yield extended["resourceClaimName"], True


def _claims_of(pod: Pod, container: ContainerSpec) -> list[tuple[str, list[str]]]:
    """Names of the claims that a container uses, with its requests of each; an empty one stands for all."""
    requests: dict[str, list[str]] = {}
    for wanted in (container.get("resources") or {}).get("claims") or ():
        requests.setdefault(wanted["name"], []).append(wanted.get("request") or "")
    entries = pods.spec_of(pod).get("resourceClaims") or () if requests else ()
    named = [(claim_name(pod, entry), requests[entry["name"]]) for entry in entries if entry["name"] in requests]
    used = [(name, names) for name, names in named if name is not None]
    extended = _extended(pod)
    if extended is not None and (own := _mapped(pod, container)):
        used.append((extended["resourceClaimName"], own))
    return used


def _mapped(pod: Pod, container: ContainerSpec) -> list[str]:
    """The requests of the special claim that a container's extended resources are."""
    asked = (container.get("resources") or {}).get("requests") or {}
    return [
        request
        for resource, request in pods.mapped_requests(pod, container)
        if parse(str(asked.get(resource, "0"))).sign > 0
    ]


def claim_name(pod: Pod, entry: Object) -> str | None:
    """The claim that an entry of ``resourceClaims`` stands for; None if none was needed. Raises ``ClaimFailed``."""
    if (name := entry.get("resourceClaimName")) is not None:
        return str(name)
    for status in (pod.get("status") or {}).get("resourceClaimStatuses") or ():
        if status["name"] == entry["name"]:
            generated = status.get("resourceClaimName")
            return None if generated is None else str(generated)
    who = f'pod "{pods.namespace_of(pod)}/{pods.name_of(pod)}"'
    raise ClaimFailed(f"{who}: ResourceClaim not created yet")
