"""Applies rules with ``iptables-restore``: one transaction for all that has changed; several if that is much.

If one fails, and now and then anyway, everything is written again (full resync). Other software empties tables: a
chain of ours that nothing leads to is looked for regularly, and its absence is a reason as well.

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-mode-iptables
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from tiphys.proxy.backend import LastSync
from tiphys.proxy.iptables import base, names
from tiphys.proxy.iptables.rules import service_rules
from tiphys.proxy.iptables.ruleset import Ruleset
from tiphys.proxy.rules import Options
from tiphys.proxy.state import Family, Place, ServiceKey, ServiceState
from tiphys.runtime.clock import Clock
from tiphys.runtime.system import hosttools
from tiphys.runtime.system.hosttools import CommandError, Run

log = logging.getLogger(__name__)

FULL_SYNC_PERIOD = 3600.0
CHECK_PERIOD = 30.0
TOOLS: dict[Family, str] = {"ip": "iptables", "ip6": "ip6tables"}
_WAIT = ("-w", "5")
"""Others may hold the lock of the tables for a while."""


class IptablesBackend:
    """A ``ProxyBackend`` of one IP family's tables."""

    def __init__(self, options: Options, clock: Clock, run: Run = hosttools.run) -> None:
        self.family: Family = options.family
        self.last = LastSync()
        self._clock = clock
        self._run = run
        self._ruleset = Ruleset(options)
        self._full_needed = True
        self._full_at = 0.0
        self._checked_at = 0.0

    @property
    def full_sync_due(self) -> bool:
        """Or that it is time to see whether the rules are still there."""
        now = self._clock.monotonic()
        return self._full_needed or min(self._full_at + FULL_SYNC_PERIOD, self._checked_at + CHECK_PERIOD) <= now

    @property
    def has_stale(self) -> bool:
        return False

    def configure(self, *, place: Place | None = None, service_ranges: tuple[str, ...] | None = None) -> None:
        """Take the node's new place; the next sync is a full one. Ranges of services are nothing to these rules."""
        if place is not None and place != self._ruleset.options.place:
            self._ruleset.options = replace(self._ruleset.options, place=place)
            self._full_needed = True

    async def sync(self, changes: Mapping[ServiceKey, ServiceState]) -> None:
        """Bring the kernel to the changed services' new state. Raises ``CommandError``; then the next is a full one."""
        rules = {key: service_rules(state, self._ruleset.options) for key, state in changes.items()}
        now = self._clock.monotonic()
        full = self._full_needed or now - self._full_at >= FULL_SYNC_PERIOD or not await self._still_there(now)
        change = self._ruleset.take(rules)
        self.last = LastSync(full, self._ruleset.counts())
        self._full_needed = True  # until it has worked
        if full:
            await self._write_all()
            self._full_at = self._checked_at = now
        elif text := self._ruleset.text(change):
            await self._restore(text)
        self._full_needed = False

    async def _still_there(self, now: float) -> bool:
        if now - self._checked_at < CHECK_PERIOD:
            return True
        self._checked_at = now
        if await _exists(self.family, "nat", names.CANARY, self._run):
            return True
        log.warning("somebody emptied the %s tables; writing all rules again", TOOLS[self.family])
        return False

    async def _restore(self, text: str) -> None:
        self.last.written = added_rules(text)
        await self._run((f"{TOOLS[self.family]}-restore", *_WAIT, "--noflush"), text)

    async def _write_all(self) -> None:
        """Every chain, and then the jumps to them that are missing in the built-in ones."""
        present = {table: await _listed(self.family, table, "", self._run) for table in names.FIXED}
        await self._restore(self._ruleset.rebuild(chains_of(present["nat"])) + missing_jumps(present))

    async def cleanup(self) -> None:
        """Remove our chains, and what leads to them."""
        await cleanup(self.family, self._run)


async def cleanup(family: Family, run: Run = hosttools.run) -> bool:
    """Remove every chain of this mode from one family's tables; returns whether there was any."""
    if not hosttools.have(f"{TOOLS[family]}-restore"):
        return False
    removed = False
    for table in names.FIXED:
        try:
            lines = await _listed(family, table, "", run)
        except CommandError as error:
            log.debug("no %s here: %s", TOOLS[family], error)
            return False
        if text := removal(table, lines):
            removed = True
            await run((f"{TOOLS[family]}-restore", *_WAIT, "--noflush"), text)
    return removed


def added_rules(text: str) -> dict[str, int]:
    """How many rules an input of ``iptables-restore`` adds to each table's chains of ours."""
    counts = dict.fromkeys(names.FIXED, 0)
    for transaction in text.split("COMMIT\n")[:-1]:
        counts[transaction[1 : transaction.index("\n")]] += transaction.count("\n-A ")
    return counts


def missing_jumps(present: Mapping[str, list[str]]) -> str:
    """The text that adds the jumps that are not among the rules ``present`` of each table."""
    parts = []
    for table in names.FIXED:
        missing = [
            f"-I {jump.rule}"
            for jump in base.JUMPS
            if jump.table == table and not any(_is_jump(line, jump) for line in present[table])
        ]
        if missing:
            parts.append("\n".join([f"*{table}", *missing, "COMMIT", ""]))
    return "".join(parts)


def _is_jump(line: str, jump: base.Jump) -> bool:
    return line.startswith(f"-A {jump.source} ") and line.endswith(f"-j {jump.target}")


def chains_of(listing: Iterable[str]) -> list[str]:
    """The names of the chains that a table's listing declares."""
    return [line.removeprefix("-N ") for line in listing if line.startswith("-N ")]


def removal(table: str, lines: Iterable[str]) -> str:
    """The text that removes our chains from a table whose rules ``lines`` list; empty if none is there."""
    lines = list(lines)
    ours = [name for name in chains_of(lines) if name in names.FIXED[table] or names.is_service_chain(name)]
    if not ours:
        return ""
    targets = {f"-j {jump.target}" for jump in base.JUMPS if jump.table == table}
    jumps = [
        f"-D{line[2:]}"
        for line in lines
        if line.startswith("-A ") and line.split()[1] not in ours and any(line.endswith(target) for target in targets)
    ]
    parts = [f"*{table}", *(f":{name} - [0:0]" for name in ours), *jumps, *(f"-X {name}" for name in ours)]
    return "\n".join([*parts, "COMMIT", ""])


async def available(run: Run = hosttools.run) -> bool:
    """Whether this process may use iptables here, and the kernel knows what the rules need."""
    probe = "*nat\n:KUBE-PROXY-PROBE - [0:0]\n-A KUBE-PROXY-PROBE -m addrtype --dst-type LOCAL -j MASQUERADE\nCOMMIT\n"
    try:
        await run(("iptables-restore", *_WAIT, "--noflush", "--test"), probe)
    except CommandError as error:
        log.info("iptables cannot be used: %s", error)
        return False
    return True


async def _listed(family: Family, table: str, chain: str, run: Run) -> list[str]:
    return (await run((TOOLS[family], *_WAIT, "-t", table, "-S", *([chain] if chain else [])), "")).splitlines()


async def _exists(family: Family, table: str, chain: str, run: Run) -> bool:
    try:
        await _listed(family, table, chain, run)
    except CommandError:
        return False
    return True
