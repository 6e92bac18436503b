"""Applies rules with the ``nft`` command: one batch, one transaction, all of it or nothing.

Changes are applied as they arrive; if one fails, and now and then anyway, the table is rebuilt (full resync), again
in one transaction, so packets never meet half of it. Chains that no element leads to any more are emptied at once
and deleted a second later: kernels before 6.2 let go of them with delay.

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-mode-nftables
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tiphys.proxy import base
from tiphys.proxy.backend import LastSync
from tiphys.proxy.rules import Options, service_rules
from tiphys.proxy.ruleset import Ruleset, is_service_chain
from tiphys.proxy.state import Family, Place, ServiceKey, ServiceState
from tiphys.runtime.clock import Clock
from tiphys.runtime.system import hosttools
from tiphys.runtime.system.hosttools import CommandError, Run

log = logging.getLogger(__name__)

FULL_SYNC_PERIOD = 3600.0
STALE_AFTER = 1.0


class NftBackend:
    """The table of one IP family. ``sync`` takes changed services; ``run`` is how commands are run."""

    def __init__(self, options: Options, clock: Clock, run: Run = hosttools.run) -> None:
        self.family: Family = options.family
        self.last = LastSync()
        self._clock = clock
        self._run = run
        self._ruleset = Ruleset(options)
        self._full_needed = True
        self._full_at = 0.0
        self._stale: dict[str, float] = {}

    @property
    def full_sync_due(self) -> bool:
        return self._full_needed or self._clock.monotonic() - self._full_at >= FULL_SYNC_PERIOD

    @property
    def has_stale(self) -> bool:
        """Whether ``sync`` should be called again in a while, to delete what is left over."""
        return bool(self._stale)

    def configure(self, *, place: Place | None = None, service_ranges: tuple[str, ...] | None = None) -> None:
        """Take the node's new place, or the ranges that service addresses come from; the next sync is a full one."""
        options = self._ruleset.options
        if place is not None:
            options = replace(options, place=place)
        if service_ranges is not None:
            options = replace(options, service_ranges=service_ranges)
        if options != self._ruleset.options:
            self._ruleset.options = options
            self._full_needed = True

    async def sync(self, changes: Mapping[ServiceKey, ServiceState]) -> None:
        """Bring the kernel to the changed services' new state. Raises ``CommandError``; then the next is a full one."""
        rules = {key: service_rules(state, self._ruleset.options) for key, state in changes.items()}
        full = self.full_sync_due
        self.last = LastSync(full)
        now = self._clock.monotonic()
        stale = self._ruleset.let_go_by(rules)
        commands = self._ruleset.update(rules)
        self._full_needed = True  # until it has worked
        if full:
            await self._rebuild()
            self._full_at = now
        elif commands:
            await self._apply(commands)
        self._full_needed = False
        self._stale.update(dict.fromkeys(stale, now))
        await self._delete_stale(now)

    async def _rebuild(self) -> None:
        chains, sets = await self._names()
        try:
            await self._apply(self._ruleset.rebuild(chains, sets))
        except CommandError as error:
            # Something in the table is in the way, such as a set of another type: give up what would be kept.
            log.warning("rebuilding the table from scratch: %s", error)
            table = f"{self.family} {base.TABLE}"
            await self._apply([f"add table {table}", f"delete table {table}", *self._ruleset.rebuild((), ())])
            chains = []
        now, wanted = self._clock.monotonic(), self._ruleset.chains()
        self._stale = {chain: now for chain in chains if is_service_chain(chain) and chain not in wanted}

    async def _delete_stale(self, now: float) -> None:
        for chain in [chain for chain in self._stale if chain in self._ruleset.chains()]:
            del self._stale[chain]
        old = [chain for chain, since in self._stale.items() if now - since >= STALE_AFTER]
        if not old:
            return
        try:
            await self._apply([f"delete chain {self.family} {base.TABLE} {chain}" for chain in old])
        except CommandError as error:
            self._full_needed, self.last.tidied = True, False
            log.warning("cannot delete unused chains: %s", error)
            return
        for chain in old:
            del self._stale[chain]

    async def _apply(self, commands: Sequence[str]) -> None:
        await self._run(("nft", "-f", "-"), "\n".join(commands) + "\n")

    async def _names(self) -> tuple[list[str], list[str]]:
        """The chains and sets that the table has now."""
        names_by_kind: dict[str, list[str]] = {"chain": [], "set": []}
        for kind, names in names_by_kind.items():
            listing = json.loads(await self._run(("nft", "-j", "list", f"{kind}s", self.family), "") or "{}")
            for entry in listing.get("nftables", ()):
                described = entry.get(kind) or {}
                if described.get("table") == base.TABLE:
                    names.append(described["name"])
        return names_by_kind["chain"], names_by_kind["set"]

    async def cleanup(self) -> None:
        """Remove the table, if it is there."""
        await cleanup(self.family, self._run)


async def cleanup(family: Family, run: Run = hosttools.run) -> None:
    """Remove the table of one family, if it is there."""
    table = f"{family} {base.TABLE}"
    await run(("nft", "-f", "-"), f"add table {table}\ndelete table {table}\n")


async def available(run: Run = hosttools.run) -> bool:
    """Whether this process may use nft here, and the kernel knows what the rules need."""
    probe = f"add chain ip {base.TABLE} nat-output {{ {base.BASE_CHAINS['nat-output']}; }}"
    try:
        await run(("nft", "--check", "-f", "-"), f"add table ip {base.TABLE}\n{probe}\n")
    except CommandError as error:
        log.info("nftables cannot be used: %s", error)
        return False
    return True
