"""The members of the etcd that control planes share: adding one as a learner, promoting it, and removing one.

A learner has no vote, so that one that never comes up does not cost the cluster its majority. Source:
https://etcd.io/docs/v3.6/learning/design-learner/
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.client.errors import ApiError
from tiphys.client.resources import PODS
from tiphys.client.rest import Client
from tiphys.cluster.kubeadm.configuration.load import Configuration
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.cluster.kubeadm.layout import HostRoot
from tiphys.cluster.kubeadm.manifests.etcd import ADVERTISED
from tiphys.store.backend import StoreError
from tiphys.store.etcdchannel import Channels, ClientTLS
from tiphys.store.etcdpb import pb

_CALL_SECONDS, _TRY_SECONDS = 5.0, 0.5


@dataclass(frozen=True, slots=True)
class EtcdMember:
    """``name`` is empty until the member has come up."""

    id: int
    name: str
    peer_url: str
    learner: bool


class Members:
    """The cluster by its members' endpoints. Every call raises ``KubeadmError``."""

    def __init__(self, channels: Channels, seconds: float) -> None:
        self._channels = channels
        self._seconds = seconds

    async def listed(self) -> list[EtcdMember]:
        answer = await self._call("MemberList", pb.MemberListRequest())
        return [
            EtcdMember(member.ID, member.name, next(iter(member.peerURLs), ""), member.isLearner)
            for member in answer.members
        ]

    async def add_learner(self, name: str, peer_url: str) -> list[tuple[str, str]]:
        """Announce a member, if it is not yet; returns name and peer URL of all, itself included."""
        members = await self.listed()
        if peer_url not in [member.peer_url for member in members]:
            await self._call("MemberAdd", pb.MemberAddRequest(peerURLs=[peer_url], isLearner=True))
            members = await self.listed()
        return [(name if member.peer_url == peer_url else member.name, member.peer_url) for member in members]

    async def promote(self, peer_url: str) -> None:
        """Give a learner its vote, once it has caught up with the leader; a member that has one is fine."""
        member = await self._member(peer_url)
        if member is None:
            raise KubeadmError(
                f"etcd has no member with the peer URL {peer_url}; run `tiphys reset` here, and join again"
            )
        if member.learner:
            await self._call("MemberPromote", pb.MemberPromoteRequest(ID=member.id))

    async def remove(self, peer_url: str) -> bool:
        """Remove a member; returns whether it was one. The last one is not removed: its data is the cluster."""
        members = await self.listed()
        member = next((member for member in members if member.peer_url == peer_url), None)
        if member is None or len(members) == 1:
            return False
        await self._call("MemberRemove", pb.MemberRemoveRequest(ID=member.id))
        return True

    async def _member(self, peer_url: str) -> EtcdMember | None:
        return next((member for member in await self.listed() if member.peer_url == peer_url), None)

    async def _call(self, method: str, request: Any) -> Any:
        """Call, again and again while the cluster has no leader, a learner is not ready, or nobody answers."""
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                made = self._channels.method("Cluster", method)
                return await self._channels.unary(made, request, repeatable=method == "MemberList")
            except StoreError as error:
                if time.monotonic() > deadline:
                    raise KubeadmError(
                        f"etcd ({', '.join(self._channels.endpoints)}): {method} did not succeed within "
                        f"{self._seconds:.0f} s: {error}; `crictl ps -a` and etcd's log on its nodes show why"
                    ) from error
            await asyncio.sleep(_TRY_SECONDS)


@contextlib.asynccontextmanager
async def connected(
    endpoints: Sequence[str], configuration: Configuration, places: HostRoot, seconds: float
) -> AsyncIterator[Members]:
    """The members by their endpoints, with the health check's certificate."""
    pki = f"{configuration.certificates}/etcd"
    certificate, key = (places.on_disk(f"{pki}/healthcheck-client.{end}") for end in ("crt", "key"))
    channels = Channels(endpoints, ClientTLS(places.on_disk(f"{pki}/ca.crt"), certificate, key), _CALL_SECONDS)
    try:
        yield Members(channels, seconds)
    finally:
        await channels.close()


async def endpoints(client: Client, *, but: str = "") -> list[str]:
    """Where the members serve clients, by the annotations of their pods. ``but``: the name of a node to leave out.

    Raises ``KubeadmError`` if no pod is there.
    """
    try:
        listed = await client.list(PODS, "kube-system", label_selector="component=etcd,tier=control-plane")
    except (ApiError, ConnectionError, TimeoutError) as error:
        raise KubeadmError(f"cannot ask for etcd's pods: {error or 'timed out'}") from error
    advertised = [
        (pod["metadata"].get("annotations") or {}).get(ADVERTISED, "")
        for pod in listed["items"]
        if (pod.get("spec") or {}).get("nodeName") != but
    ]
    urls = [url for url in advertised if url]
    if not urls:
        raise KubeadmError(
            "no pod of etcd with its clients' URL is in namespace kube-system; are the other control planes running?"
        )
    return urls
