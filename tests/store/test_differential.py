"""Random operations, done to the embedded store and to real etcd: same answers, revisions and events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.etcds import HAVE_ETCD, real_etcd
from tiphys.runtime.clock import SystemClock
from tiphys.store.backend import (
    Backend,
    Compare,
    CompareTarget,
    Delete,
    Event,
    InvalidRequest,
    KeyValue,
    Put,
    Range,
    SortTarget,
    StoreError,
    Txn,
    WatchRequest,
)
from tiphys.store.etcdclient import EtcdBackend
from tiphys.store.memory import MemoryBackend

pytestmark = [pytest.mark.etcd, pytest.mark.skipif(not HAVE_ETCD, reason="etcd is not installed")]

NAMES = st.sampled_from([b"a", b"b", b"ba", b"c", b"\xff"])
ENDS = st.one_of(st.none(), NAMES, st.just(b"\xff\xff"))
VALUES = st.sampled_from([b"", b"1", b"2"])
AGO = st.integers(0, 6)


@dataclass(frozen=True)
class Ago:
    """A read of the past: so many revisions before the newest."""

    request: Range
    revisions: int


@dataclass(frozen=True)
class Compact:
    revisions: int


ranges = st.builds(
    Range,
    key=NAMES,
    end=ENDS,
    limit=st.integers(0, 3),
    keys_only=st.booleans(),
    count_only=st.booleans(),
    descending=st.booleans(),
)
puts = st.builds(Put, key=NAMES, value=VALUES, prev_kv=st.booleans())
kept_puts = st.builds(Put, key=NAMES, prev_kv=st.booleans(), ignore_value=st.just(True))
deletes = st.builds(Delete, key=NAMES, end=ENDS, prev_kv=st.booleans())
OPERATORS = st.sampled_from(["=", "!=", "<", ">"])
compares = st.one_of(
    st.builds(Compare, NAMES, st.just(CompareTarget.VALUE), OPERATORS, VALUES, ENDS),
    st.builds(Compare, NAMES, st.just(CompareTarget.VERSION), OPERATORS, st.integers(0, 3), ENDS),
)
operations = st.one_of(puts, puts, ranges, deletes)
txns = st.recursive(
    st.builds(Txn, st.lists(compares, max_size=2), st.lists(operations, max_size=3), st.lists(operations, max_size=2)),
    lambda inner: st.builds(
        Txn, st.lists(compares, max_size=1), st.lists(st.one_of(operations, inner), max_size=3), st.lists(operations)
    ),
    max_leaves=2,
)
steps = st.one_of(
    puts, puts, kept_puts, deletes, ranges, txns, txns, st.builds(Ago, ranges, AGO), st.builds(Compact, AGO)
)


class Subject:
    """A backend below a prefix, with revisions counted from where it began."""

    def __init__(self, backend: Backend, prefix: bytes, base: int) -> None:
        self.backend = backend
        self.prefix = prefix
        self.base = base

    def below(self, value: object) -> object:
        """A request with the prefix before its keys."""
        if isinstance(value, Txn):
            return Txn(
                *([self.below(part) for part in parts] for parts in (value.compare, value.success, value.failure))
            )
        changed = {"key": self.prefix + value.key, "end": self._end(value)}  # type: ignore[attr-defined]
        if isinstance(value, Put):
            del changed["end"]
        return type(value)(**{**{name: getattr(value, name) for name in value.__dataclass_fields__}, **changed})

    def _end(self, value: object) -> bytes | None:
        end = getattr(value, "end", None)
        return None if end is None else self.prefix + end

    def told(self, value: object) -> object:
        """An answer with revisions from ``base`` on and keys without the prefix."""
        if isinstance(value, KeyValue):
            numbers = (value.create_revision, value.mod_revision)
            create, mod = (number and number - self.base for number in numbers)
            return (value.key.removeprefix(self.prefix), value.value, create, mod, value.version)
        if isinstance(value, Event):
            return (value.type, self.told(value.kv), value.prev_kv and self.told(value.prev_kv))
        if isinstance(value, list | tuple):
            return [self.told(each) for each in value]
        if hasattr(value, "__dataclass_fields__"):
            found = {name: self.told(getattr(value, name)) for name in value.__dataclass_fields__}
            if "revision" in found:
                found["revision"] = value.revision - self.base  # type: ignore[attr-defined]
            for name, response in found.get("responses", ()):
                if name == "TxnResult":  # etcd leaves the revision of an inner transaction out
                    del response["revision"]
            return (type(value).__name__, found)
        return value

    async def do(self, step: object) -> object:
        backend = self.backend
        try:
            if isinstance(step, Put):
                return self.told(await backend.put(self.below(step)))  # type: ignore[arg-type]
            if isinstance(step, Delete):
                return self.told(await backend.delete(self.below(step)))  # type: ignore[arg-type]
            if isinstance(step, Txn):
                return self.told(await backend.txn(self.below(step)))  # type: ignore[arg-type]
            now = await backend.current_revision()
            if isinstance(step, Compact):
                target = now - step.revisions
                if target <= self.base:
                    return None
                return self.told(await backend.compact(target, physical=True)) is not None
            request = step.request if isinstance(step, Ago) else step
            assert isinstance(request, Range)
            full: Range = self.below(request)  # type: ignore[assignment]
            if isinstance(step, Ago) and now - step.revisions > self.base:
                values = {name: getattr(full, name) for name in Range.__dataclass_fields__}
                full = Range(**{**values, "revision": now - step.revisions})
            return self.told(await backend.range(full))
        except InvalidRequest as error:
            return str(error)
        except StoreError as error:
            return type(error).__name__

    async def events(self, first: int) -> object:
        """Everything that a watch from ``first`` (counted from the base) tells."""
        last = await self.backend.current_revision()
        await self.backend.put(Put(self.prefix + b"\xfe end"))
        watch = await self.backend.watch(
            WatchRequest(self.prefix, self.prefix + b"\xff\xff", self.base + first, prev_kv=True)
        )
        found: list[Event] = []
        try:
            async for batch in watch:
                found += batch.events
                if found and found[-1].kv.mod_revision > last:
                    break
        except StoreError as error:
            return type(error).__name__
        finally:
            await watch.close()
        return self.told(found)


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, EtcdBackend]]:
    directory: Path = tmp_path_factory.mktemp("etcd")
    with real_etcd(directory) as (member,), asyncio.Runner() as runner:

        async def connect() -> EtcdBackend:
            return EtcdBackend([member.endpoint])

        backend = runner.run(connect())
        yield runner, backend
        runner.run(backend.close())


@asynccontextmanager
async def subjects(real: EtcdBackend) -> AsyncIterator[tuple[Subject, Subject]]:
    base = await real.current_revision()
    memory = MemoryBackend(SystemClock())
    memory.core.revision = memory.hub.revision = base
    prefix = b"/%d/" % base
    # Both count from the same revision, so that a compaction of one is the same as of the other.
    await real.put(Put(prefix + b"\0"))
    await memory.put(Put(prefix + b"\0"))
    yield Subject(memory, prefix, base + 1), Subject(real, prefix, base + 1)
    await memory.close()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(steps=st.lists(steps, min_size=3, max_size=20), first=st.integers(1, 8))
def test_the_same_as_etcd(etcd: tuple[asyncio.Runner, EtcdBackend], steps: list[object], first: int) -> None:
    runner, real = etcd

    async def scenario() -> None:
        async with subjects(real) as (ours, theirs):
            for step in steps:
                assert await ours.do(step) == await theirs.do(step), step
            compacted = ours.backend.core.compacted - ours.base  # type: ignore[attr-defined]
            newest = await real.current_revision() - ours.base
            begin = max(
                min(first, newest + 1), compacted + 1
            )  # etcd 3.4 drops a deletion at the compacted revision itself
            assert await ours.events(begin) == await theirs.events(begin)

    runner.run(asyncio.wait_for(scenario(), 10))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(
    keys=st.lists(st.tuples(NAMES, VALUES), max_size=12),
    sort=st.sampled_from([SortTarget.KEY, SortTarget.CREATE, SortTarget.MOD]),
    descending=st.booleans(),
    limit=st.integers(0, 4),
    bounds=st.tuples(AGO, AGO, AGO, AGO),
)
def test_sorted_and_filtered_ranges(
    etcd: tuple[asyncio.Runner, EtcdBackend],
    keys: list[tuple[bytes, bytes]],
    sort: SortTarget,
    descending: bool,
    limit: int,
    bounds: tuple[int, int, int, int],
) -> None:
    runner, real = etcd

    async def scenario() -> None:
        async with subjects(real) as (ours, theirs):
            for key, value in keys:
                await ours.do(Put(key, value))
                await theirs.do(Put(key, value))
            base = ours.base
            filters = dict(zip(("min_mod", "max_mod", "min_create", "max_create"), bounds, strict=True))
            request = Range(
                b"",
                b"\xff\xff",
                limit=limit,
                sort=sort,
                descending=descending,
                **{f"{name}_revision": base + number for name, number in filters.items() if number},  # type: ignore[arg-type]
            )
            assert await ours.do(request) == await theirs.do(request)

    runner.run(asyncio.wait_for(scenario(), 10))
