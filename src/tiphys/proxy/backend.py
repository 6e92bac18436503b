"""The seam between what the proxy knows and how packets get there: nftables, or relaying in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tiphys.proxy.state import Family, Place, ServiceKey, ServiceState


class ProxyBackend(Protocol):
    """Carries packets of one IP family."""

    family: Family

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
