"""The seam between what the proxy knows and how packets get there: nftables, or relaying in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tiphys.proxy.state import Family, Place, ServiceKey, ServiceState


@dataclass(slots=True)
class LastSync:
    """What the last call of ``sync`` did, or was about to do when it failed."""

    full: bool = False
    """Whether everything was written, and not only what had changed."""
    rules: dict[str, int] = field(default_factory=dict)
    """How many rules each of the tables of iptables has, by name."""
    written: dict[str, int] = field(default_factory=dict)
    """How many of them were written."""
    tidied: bool = True
    """Whether what nothing leads to any more could be removed."""


class ProxyBackend(Protocol):
    """Carries packets of one IP family."""

    family: Family
    last: LastSync

    @property
    def full_sync_due(self) -> bool:
        """Whether ``sync`` should be called though nothing has changed."""
        ...

    @property
    def has_stale(self) -> bool:
        """Whether ``sync`` should be called again in a second, to tidy up."""
        ...

    def configure(self, *, place: Place | None = None, service_ranges: tuple[str, ...] | None = None) -> None:
        """Take this node's place, or the ranges that service addresses come from."""
        ...

    async def sync(self, changes: Mapping[ServiceKey, ServiceState]) -> None:
        """Take the changed services' new state, gone ones empty. Raises ``CommandError`` if it did not work; then
        the next call, with whatever changes, puts it right."""
        ...

    async def cleanup(self) -> None:
        """Remove everything that was made."""
        ...
