"""`tiphys torture`: kill the processes of a running cluster again and again while everything in it changes.

A round: some kills of components chosen by its seed, under churn; then the churn stops, the cluster comes to rest, and
is held against what was acknowledged and what must be. At the end everything is deleted, and nothing may be left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from tiphys.cli.connect import admin_client
from tiphys.cli.console import Console, fail
from tiphys.cli.options import existing_cluster, parser
from tiphys.client.rest import Client
from tiphys.cluster import lifecycle
from tiphys.cluster.settings import Settings
from tiphys.kubelet.runtime.service import RuntimeFailure
from tiphys.runtime.clock import Clock, SystemClock
from tiphys.testing.torture import inspection
from tiphys.testing.torture.churn import Churn
from tiphys.testing.torture.identity import Identities
from tiphys.testing.torture.ledger import UNANSWERED, Ledger

NAMESPACE = "tiphys-torture"
PER_ROUND = 10
REST_SECONDS = 150.0
POLL_SECONDS = 1.0
TELL_SECONDS = 20.0
LONGEST_PAUSE = 2.0
REQUEST_SECONDS = 10.0


def main(argv: Sequence[str]) -> int:
    """Exit status 1 if anything was lost, doubled or left behind."""
    options = parser("torture", "Kill the cluster's processes under churn, and see that nothing is lost.")
    options.add_argument("--kills", type=int, default=100, help="how many (default 100)")
    options.add_argument("--seed", type=int, default=random.randrange(1 << 30), help="of the first round")
    options.add_argument(
        "--of", type=_names, default=(), help="components to kill, with commas between; a name twice: twice as often"
    )
    arguments = options.parse_args(argv)
    settings = existing_cluster(arguments.data_dir)
    if unknown := set(arguments.of) - lifecycle.component_states(settings).keys():
        known = ", ".join(sorted(lifecycle.component_states(settings)))
        fail(f"--of: the cluster has no {', '.join(sorted(unknown))}; it has {known}")
    if not lifecycle.supervisor_pid(settings):
        fail("the cluster is not running; start it with `tiphys up`")
    return asyncio.run(_torture(settings, arguments.kills, arguments.seed, arguments.of))


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


async def _torture(settings: Settings, kills: int, seed: int, of: Sequence[str]) -> int:
    console, clock = Console(), SystemClock()
    client = admin_client(settings, timeout=REQUEST_SECONDS)
    tally, identities = Tally(), Identities()
    churn = Churn(client, NAMESPACE, clock, random.Random(seed))
    ledger = Ledger(client, NAMESPACE, clock, random.Random(seed))
    try:
        await churn.set_up()
        await _rest(lambda: inspection.inspect(client, settings, NAMESPACE, identities))
        for number, left in enumerate(range(kills, 0, -PER_ROUND)):
            rng = random.Random(seed + number)
            with console.step(f"Round {number + 1}, seed {seed + number}"):
                await _round(settings, min(left, PER_ROUND), of, rng, clock, tally, churn, ledger)
            faults = await _rest(lambda: _faults(client, settings, ledger, identities))
            tally.note(f"seed {seed + number}", faults)
            console.say("\n".join(f"    {fault}" for fault in faults) or "    at rest, and whole")
        tally.note("the end", await _end(client, settings, churn, identities))
    finally:
        await client.close()
    print(tally.report(ledger, churn))
    return 1 if tally.faults else 0


class Tally:
    """What was killed, how long it took to come to rest, and what was wrong then."""

    def __init__(self) -> None:
        self.killed: Counter[str] = Counter()
        self.faults: list[str] = []

    def note(self, when: str, faults: list[str]) -> None:
        self.faults += [f"{when}: {fault}" for fault in faults]

    def report(self, ledger: Ledger, churn: Churn) -> str:
        names = ", ".join(f"{name} {count}" for name, count in sorted(self.killed.items()))
        lines = [
            f"{self.killed.total()} kills: {names}",
            f"{ledger.acknowledged} acknowledged writes ({ledger.unanswered} unanswered), {churn.done} other changes",
            *(self.faults or ["nothing lost, nothing doubled, nothing left behind"]),
        ]
        return "\n".join(lines)


async def _round(
    settings: Settings,
    kills: int,
    of: Sequence[str],
    rng: random.Random,
    clock: Clock,
    tally: Tally,
    churn: Churn,
    ledger: Ledger,
) -> None:
    async with asyncio.TaskGroup() as group:
        work = [group.create_task(churn.run()), group.create_task(ledger.run())]
        for _ in range(kills):
            await clock.sleep(rng.uniform(0, LONGEST_PAUSE))
            tally.killed[await _kill(settings, of, rng, clock)] += 1
        for task in work:
            task.cancel()


async def _kill(settings: Settings, of: Sequence[str], rng: random.Random, clock: Clock) -> str:
    """Kill one of the components that run, as soon as one does; its name. ``of`` are those to choose from, if any."""
    while True:
        states = lifecycle.component_states(settings)
        up = sorted(name for name, state in states.items() if state["state"] in ("running", "starting"))
        running = [name for name in of if name in up] if of else up
        if running:
            name = rng.choice(running)
            with contextlib.suppress(ProcessLookupError):
                os.kill(states[name]["pid"], signal.SIGKILL)
                return name
        await clock.sleep(0.1)


async def _faults(client: Client, settings: Settings, ledger: Ledger, identities: Identities) -> list[str]:
    states = lifecycle.component_states(settings)
    dead = [f"{name} does not run" for name, state in states.items() if state["state"] != "running"]
    return dead + await ledger.lost() + await inspection.inspect(client, settings, NAMESPACE, identities)


async def _rest(look: Callable[[], Awaitable[list[str]]]) -> list[str]:
    """Look until there is no fault; those of the last look, when it takes too long."""
    deadline = time.monotonic() + REST_SECONDS
    message = time.monotonic() + TELL_SECONDS
    while True:
        try:
            faults = await look()
        except (*UNANSWERED, RuntimeFailure) as error:
            faults = [f"the cluster does not answer: {error}"]
        if not faults or time.monotonic() > deadline:
            return faults
        if time.monotonic() > message:
            Console().say(f"    not at rest yet: {'; '.join(faults[:5])}")
            message += TELL_SECONDS
        await asyncio.sleep(POLL_SECONDS)


async def _end(client: Client, settings: Settings, churn: Churn, identities: Identities) -> list[str]:
    async def look() -> list[str]:
        if not await churn.tear_down():
            return ["the namespace is still there"]
        return await inspection.runtime_faults(settings, [], NAMESPACE, identities.seen)

    return await _rest(look)
