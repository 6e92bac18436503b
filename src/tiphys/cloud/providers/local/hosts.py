"""The nodes of this machine, by the command ``tiphys node``, which is this cloud's API (docs/nodes.md).

The command is a program of its own, as its daemons must not be children of whoever asks. Source: https://kubernetes.io/docs/concepts/architecture/cloud-controller/
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import Protocol

from tiphys.cloud.provider import CloudError
from tiphys.runtime.system import hosttools

_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class LocalHost:
    """One node of this machine."""

    name: str
    addresses: tuple[str, ...]
    """One of each IP family that the cluster has."""
    is_running: bool
    is_first: bool = False
    """It runs the control plane, and is the machine itself."""


class Hosts(Protocol):
    async def look(self) -> list[LocalHost]:
        """Raises ``CloudError``."""
        ...

    async def act(self, verb: str, name: str) -> None:
        """``add``, ``start``, ``stop`` or ``delete`` a node, whose Node object stays. Raises ``CloudError``."""
        ...


class CommandHosts:
    """By the command, on the cluster in ``data_dir``. One change at a time; looks are shared by who asks together."""

    def __init__(self, data_dir: str) -> None:
        self._data_dir = data_dir
        self._changes = asyncio.Lock()
        self._looking: asyncio.Task[list[LocalHost]] | None = None

    async def look(self) -> list[LocalHost]:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._listed())
        return await asyncio.shield(self._looking)

    async def _listed(self) -> list[LocalHost]:
        answer = await self._run("list", "-o", "json")
        try:
            rows = json.loads(answer)
            return [
                LocalHost(row["node"], tuple(row["addresses"]), row["processes"] == "running", is_first=number == 0)
                for number, row in enumerate(rows)
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise CloudError(f"tiphys node list did not answer with nodes: {error}") from error

    async def act(self, verb: str, name: str) -> None:
        more = ("--keep-object",) if verb == "delete" else ()
        async with self._changes:
            await self._run(verb, *more, name)

    async def _run(self, *words: str) -> str:
        argv = (sys.executable, "-m", "tiphys.cli.main", "node", "--data-dir", self._data_dir, *words)
        try:
            return await hosttools.run(argv, timeout=_SECONDS)
        except hosttools.CommandError as error:
            raise CloudError(f"tiphys node {' '.join(words)}: {error}") from error
