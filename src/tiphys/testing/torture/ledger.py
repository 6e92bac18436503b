"""The ledger: small objects written all the time, and what the API server acknowledged of each."""

from __future__ import annotations

import random

from tiphys.client import errors
from tiphys.client.resources import CONFIG_MAPS
from tiphys.client.rest import Client
from tiphys.runtime.clock import Clock

UNANSWERED = (ConnectionError, TimeoutError, errors.ApiError)
"""How a request may fail while processes are killed."""
LABEL = "tiphys.dev/ledger"
PAUSE = 0.01


class Ledger:
    """``known`` has the value of each object by name, or None for one that was deleted; no name twice."""

    def __init__(self, client: Client, namespace: str, clock: Clock, rng: random.Random) -> None:
        self._client, self._namespace, self._clock, self._rng = client, namespace, clock, rng
        self.known: dict[str, str | None] = {}
        self.acknowledged = 0
        self.unanswered = 0

    async def run(self) -> None:
        """Write until cancelled. What was not answered may have happened or not: its name is not used any more."""
        number = 0
        while True:
            number += 1
            name = self._choose(number)
            before = self.known.pop(name, None)
            try:
                self.known[name] = await self._write(name, before, str(number))
                self.acknowledged += 1
            except UNANSWERED:
                self.unanswered += 1
            await self._clock.sleep(PAUSE)

    def _choose(self, number: int) -> str:
        living = [name for name, value in self.known.items() if value is not None]
        return f"l-{number}" if self._rng.random() < 0.5 or not living else self._rng.choice(living)

    async def _write(self, name: str, before: str | None, value: str) -> str | None:
        if before is not None and self._rng.random() < 0.4:
            await self._client.delete(CONFIG_MAPS, name, self._namespace)
            return None
        metadata = {"name": name, "namespace": self._namespace, "labels": {LABEL: "1"}}
        wanted = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": value}}
        write = self._client.create if before is None else self._client.update
        await write(CONFIG_MAPS, wanted)
        return value

    async def lost(self) -> list[str]:
        """Acknowledged writes that are not there, or that are undone."""
        answer = await self._client.list(CONFIG_MAPS, self._namespace, label_selector=LABEL)
        return differences(self.known, {o["metadata"]["name"]: o["data"]["value"] for o in answer["items"]})


def differences(known: dict[str, str | None], present: dict[str, str]) -> list[str]:
    return [
        f"{name} was acknowledged as {value or 'deleted'}, and is {present.get(name, 'not there')}"
        for name, value in known.items()
        if present.get(name) != value
    ]
