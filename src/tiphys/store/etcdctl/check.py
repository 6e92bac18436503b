"""check perf: whether a cluster keeps up with a load, by etcd's own four loads and limits.

Source: https://github.com/etcd-io/etcd/tree/main/etcdctl
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from dataclasses import dataclass

from tiphys.store.backend import StoreError, prefix_end
from tiphys.store.etcdctl.flags import Command, Flag, UsageError
from tiphys.store.etcdctl.session import Session, raw
from tiphys.store.etcdpb import pb

SECONDS = 60
SLOWEST = 0.5
DEVIATION = 0.1
VALUE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Load:
    """Writes in a second, and the clients that do them."""

    rate: int
    clients: int


LOADS = {"s": Load(150, 50), "m": Load(1000, 200), "l": Load(8000, 500), "xl": Load(15000, 1000)}
_NAMES = {"small": "s", "medium": "m", "large": "l", "xlarge": "xl"}


async def perf(session: Session) -> None:
    """Run ``check perf``. Raises ``UsageError`` with status 1 if the cluster is too slow for the load."""
    name = session["load"].lower()
    load = LOADS.get(_NAMES.get(name, name))
    if load is None:
        raise UsageError(f"unknown load option {session['load']}")
    prefix = raw(session["prefix"])
    existing = await session.call("KV", "Range", pb.RangeRequest(key=prefix, range_end=prefix_end(prefix), limit=1))
    if existing.kvs:
        raise StoreError(f"prefix {session['prefix']!r} has keys. Delete with `etcdctl del --prefix` first.")
    times, errors, took = await _write(session, prefix, load)
    await session.call("KV", "DeleteRange", pb.DeleteRangeRequest(key=prefix, range_end=prefix_end(prefix)))
    if session["auto-compact"]:
        revision = (await session.call("KV", "Range", pb.RangeRequest(key=prefix))).header.revision
        await session.call("KV", "Compact", pb.CompactionRequest(revision=revision, physical=True))
    if session["auto-defrag"]:
        await session.call("Maintenance", "Defragment", pb.DefragmentRequest())
    if not _judge(session, load, times, errors, took):
        raise UsageError("", 1)


async def _write(session: Session, prefix: bytes, load: Load) -> tuple[list[float], int, float]:
    """Write at the load's rate; returns how long each write took, the failures, and how long all took."""
    times: list[float] = []
    errors = 0
    value = os.urandom(VALUE_BYTES)
    began = time.monotonic()
    sent = 0

    async def client() -> None:
        nonlocal errors, sent
        while (now := time.monotonic() - began) < SECONDS:
            due = sent / load.rate
            if due > now:
                await asyncio.sleep(due - now)
                continue
            sent += 1
            start = time.perf_counter()
            try:
                await session.call("KV", "Put", pb.PutRequest(key=prefix + os.urandom(16).hex().encode(), value=value))
            except StoreError:
                errors += 1
            times.append(time.perf_counter() - start)

    await asyncio.gather(*(client() for _ in range(load.clients)))
    return times, errors, time.monotonic() - began


def _judge(session: Session, load: Load, times: list[float], errors: int, took: float) -> bool:
    rate = int(len(times) / took)
    slowest, deviation = max(times), statistics.pstdev(times)
    checks = [
        (rate > load.rate * 0.9, f"Throughput is {rate} writes/s", f"Throughput too low: {rate} writes/s"),
        (slowest <= SLOWEST, f"Slowest request took {slowest:f}s", f"Slowest request took too long: {slowest:f}s"),
        (deviation <= DEVIATION, f"Stddev is {deviation:f}s", f"Stddev too high: {deviation:f}s"),
    ]
    if errors:
        session.output.say(f"FAIL: {errors} writes failed")
    for good, praise, complaint in checks:
        session.output.say(f"PASS: {praise}" if good else f"FAIL: {complaint}")
    passed = not errors and all(good for good, _, _ in checks)
    session.output.say("PASS" if passed else "FAIL")
    return passed


COMMANDS = (
    Command(
        "check perf",
        "Check the performance of the etcd cluster",
        perf,
        (
            Flag("load", "s", "the load: s, m, l or xl"),
            Flag("prefix", "/etcdctl-check-perf/", "where the keys are written"),
            Flag("auto-compact", default=False, help="compact the store afterwards"),
            Flag("auto-defrag", default=False, help="defragment the store afterwards"),
        ),
    ),
)
