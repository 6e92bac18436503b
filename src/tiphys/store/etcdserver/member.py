"""What the services know of the server they are part of: the store, and its identity.

Source: https://etcd.io/docs/v3.6/learning/api/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tiphys.store.embedded import Embedded
from tiphys.store.etcdpb import pb

RAFT_TERM = 2
"""There are no elections here; a fresh etcd of one member is in term 2."""


@dataclass(slots=True)
class Member:
    """A store that is served as the only member of an etcd cluster."""

    store: Embedded
    name: str = "default"
    client_urls: list[str] = field(default_factory=list)
    peer_urls: list[str] = field(default_factory=list)

    @property
    def cluster_id(self) -> int:
        return self.store.cluster_id

    @property
    def member_id(self) -> int:
        return self.store.member_id

    def header(self, revision: int = 0) -> Any:
        """A response's header; without ``revision`` with the store's newest."""
        return pb.ResponseHeader(
            cluster_id=self.cluster_id,
            member_id=self.member_id,
            revision=revision or self.store.hub.revision,
            raft_term=RAFT_TERM,
        )
