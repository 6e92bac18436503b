"""One suite for every ``Backend``: memory, SQLite, SQLite by gRPC, and real etcd.

Each test works below a prefix of its own and counts revisions from where it began, as all tests share one real etcd.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.store.etcds import HAVE_ETCD, backend_of, real_etcd
from tiphys.store.backend import (
    Backend,
    Compacted,
    Compare,
    CompareTarget,
    Delete,
    DeleteResult,
    Event,
    EventType,
    FutureRevision,
    InvalidRequest,
    KeyValue,
    LeaseExists,
    LeaseNotFound,
    Put,
    PutResult,
    Range,
    RangeResult,
    SortTarget,
    Txn,
    TxnResult,
    Watch,
    WatchBatch,
    WatchRequest,
    prefix_end,
)

KINDS = ["memory", "sqlite", "grpc", "shared", pytest.param("etcd", marks=pytest.mark.etcd)]
_numbers = itertools.count()


class Lab:
    """A backend, and a prefix that nobody else uses."""

    def __init__(self, backend: Backend) -> None:
        self.store = backend
        self.prefix = f"/test/{next(_numbers)}/".encode()
        self.end = prefix_end(self.prefix)

    def key(self, name: str) -> bytes:
        return self.prefix + name.encode()

    async def put(self, name: str, value: str = "", lease: int = 0) -> int:
        return (await self.store.put(Put(self.key(name), value.encode(), lease))).revision

    async def delete(self, name: str) -> int:
        return (await self.store.delete(Delete(self.key(name)))).revision

    async def names(self, revision: int = 0) -> list[str]:
        result = await self.store.range(Range(self.prefix, self.end, revision))
        return [kv.key.removeprefix(self.prefix).decode() for kv in result.kvs]

    async def value(self, name: str, revision: int = 0) -> str | None:
        result = await self.store.range(Range(self.key(name), revision=revision))
        return result.kvs[0].value.decode() if result.kvs else None

    async def watch(self, start: int = 0, **more: bool) -> Watch:
        return await self.store.watch(WatchRequest(self.prefix, self.end, start, **more))


Scenario = Callable[[Lab], Awaitable[None]]
Run = Callable[[Scenario], None]


@pytest.fixture(scope="module")
def etcd_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real_etcd(tmp_path_factory.mktemp("etcd")) as members:
        yield members[0].endpoint


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    kind = request.param
    endpoint = ""
    if kind == "etcd":
        if not HAVE_ETCD:
            pytest.skip("etcd is not installed")
        endpoint = request.getfixturevalue("etcd_endpoint")

    def play(scenario: Scenario) -> None:
        async def main() -> None:
            async with asyncio.timeout(60), backend_of(kind, tmp_path / "data", endpoint) as backend:
                await scenario(Lab(backend))

        asyncio.run(main())

    return play


async def read(watch: Watch, events: int) -> list[Event]:
    """The next so many events of a watch."""
    found: list[Event] = []
    iterator = aiter(watch)
    while len(found) < events:
        found += (await anext(iterator)).events
    assert len(found) == events
    return found


async def next_batch(watch: Watch) -> WatchBatch:
    return await anext(aiter(watch))


# Keys


def test_a_key_counts_its_revisions_and_its_version(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        base = await lab.store.current_revision()
        assert await lab.put("a", "1") == base + 1
        assert await lab.put("b") == base + 2
        assert await lab.put("a", "2") == base + 3
        result = await lab.store.range(Range(lab.key("a")))
        assert result == RangeResult(
            [KeyValue(lab.key("a"), b"2", base + 1, base + 3, 2)], 1, more=False, revision=base + 3
        )
        await lab.delete("a")
        await lab.put("a", "3")
        (kv,) = (await lab.store.range(Range(lab.key("a")))).kvs
        assert (kv.create_revision, kv.mod_revision, kv.version) == (base + 5, base + 5, 1)
        assert await lab.store.current_revision() == base + 5

    run(scenario)


def test_reads_in_the_past(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        first = await lab.put("a", "1")
        second = await lab.put("a", "2")
        third = await lab.put("b")
        fourth = await lab.delete("a")
        assert [await lab.names(revision) for revision in (first, second, third, fourth, 0)] == [
            ["a"],
            ["a"],
            ["a", "b"],
            ["b"],
            ["b"],
        ]
        assert await lab.value("a", first) == "1"
        assert await lab.value("a", second) == "2"
        assert await lab.value("a") is None
        with pytest.raises(FutureRevision):
            await lab.names(fourth + 1000)

    run(scenario)


def test_ranges(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        for name in ("b", "a", "d", "c"):
            await lab.put(name, name.upper())
        store = lab.store

        async def names(**more: object) -> tuple[str, int, bool]:
            result = await store.range(Range(lab.prefix, lab.end, **more))  # type: ignore[arg-type]
            return "".join(kv.key.decode()[-1] for kv in result.kvs), result.count, result.more

        assert await names() == ("abcd", 4, False)
        assert await names(limit=2) == ("ab", 4, True)
        assert await names(limit=4) == ("abcd", 4, False)
        assert await names(descending=True, limit=3) == ("dcb", 4, True)
        assert await names(count_only=True) == ("", 4, False)
        assert await names(sort=SortTarget.CREATE) == ("badc", 4, False)
        assert await names(sort=SortTarget.MOD, descending=True, limit=1) == ("c", 4, True)
        result = await store.range(Range(lab.prefix, lab.end, keys_only=True))
        assert {kv.value for kv in result.kvs} == {b""}
        assert all(kv.mod_revision and kv.version == 1 for kv in result.kvs)
        result = await store.range(Range(lab.key("b"), lab.key("d")))
        assert [kv.value for kv in result.kvs] == [b"B", b"C"]
        assert (await store.range(Range(lab.key("c"), lab.key("c")))).kvs == []
        assert (await store.range(Range(lab.key("z"), lab.key("b")))).count == 0
        everything = await store.range(Range(b"\0", b"\0"))
        assert {kv.key for kv in everything.kvs} >= {lab.key(name) for name in "abcd"}

    run(scenario)


def test_range_filters_by_revision(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        base = await lab.store.current_revision()
        for name in ("a", "b", "c"):
            await lab.put(name)
        await lab.put("a")

        async def names(**more: int) -> str:
            result = await lab.store.range(Range(lab.prefix, lab.end, **more))
            return "".join(kv.key.decode()[-1] for kv in result.kvs)

        assert await names(min_mod_revision=base + 3) == "ac"
        assert await names(max_mod_revision=base + 3) == "bc"
        assert await names(min_create_revision=base + 2) == "bc"
        assert await names(max_create_revision=base + 1) == "a"
        assert await names(min_mod_revision=base + 2, max_mod_revision=base + 3, limit=1) == "b"

    run(scenario)


def test_sorting_by_value_and_version(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        for name, value in (("a", "3"), ("b", "1"), ("c", "2"), ("b", "0"), ("c", "9"), ("c", "5")):
            await lab.put(name, value)

        async def names(sort: SortTarget, *, descending: bool) -> str:
            result = await lab.store.range(Range(lab.prefix, lab.end, sort=sort, descending=descending))
            return "".join(kv.key.decode()[-1] for kv in result.kvs)

        assert await names(SortTarget.VALUE, descending=False) == "bac"
        assert await names(SortTarget.VALUE, descending=True) == "cab"
        assert await names(SortTarget.VERSION, descending=False) == "abc"
        assert await names(SortTarget.VERSION, descending=True) == "cba"

    run(scenario)


def test_put_with_previous_value_and_ignored_parts(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        store, key = lab.store, lab.key("a")
        first = await store.put(Put(key, b"1", prev_kv=True))
        assert first.prev_kv is None
        second = await store.put(Put(key, b"2", prev_kv=True))
        assert second.prev_kv == KeyValue(key, b"1", first.revision, first.revision, 1)
        lease = (await store.lease_grant(100)).id
        await store.put(Put(key, lease=lease, ignore_value=True))
        (kv,) = (await store.range(Range(key))).kvs
        assert (kv.value, kv.lease, kv.version) == (b"2", lease, 3)
        await store.put(Put(key, b"3", ignore_lease=True))
        (kv,) = (await store.range(Range(key))).kvs
        assert (kv.value, kv.lease) == (b"3", lease)
        with pytest.raises(InvalidRequest, match="key not found"):
            await store.put(Put(lab.key("none"), ignore_value=True))
        with pytest.raises(InvalidRequest, match="value is provided"):
            await store.put(Put(key, b"x", ignore_value=True))
        with pytest.raises(InvalidRequest, match="lease is provided"):
            await store.put(Put(key, lease=lease, ignore_lease=True))
        with pytest.raises(InvalidRequest, match="key is not provided"):
            await store.put(Put(b""))
        with pytest.raises(LeaseNotFound):
            await store.put(Put(key, lease=4711))
        with pytest.raises(InvalidRequest, match="request is too large"):
            await store.put(Put(key, bytes(1_600_000)))
        await store.lease_revoke(lease)

    run(scenario)


def test_deletion(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        store = lab.store
        for name in ("a", "b", "c"):
            await lab.put(name, name)
        before = await store.current_revision()
        assert await store.delete(Delete(lab.key("none"))) == DeleteResult(0, [], before)
        result = await store.delete(Delete(lab.key("a"), lab.key("c"), prev_kv=True))
        assert (result.deleted, result.revision) == (2, before + 1)
        assert [kv.value for kv in result.prev_kvs] == [b"a", b"b"]
        assert await lab.names() == ["c"]
        assert (await store.delete(Delete(lab.prefix, lab.end))).deleted == 1
        assert await store.current_revision() == before + 2

    run(scenario)


# Transactions


def test_compare_and_write(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        store, key = lab.store, lab.key("a")

        def swap(revision: int, value: bytes) -> Txn:
            return Txn([Compare(key, CompareTarget.MOD, "=", revision)], [Put(key, value)], [Range(key)])

        created = await store.txn(swap(0, b"1"))
        assert created == TxnResult(
            succeeded=True, responses=[PutResult(None, created.revision)], revision=created.revision
        )
        refused = await store.txn(swap(0, b"2"))
        kv = KeyValue(key, b"1", created.revision, created.revision, 1)
        assert refused == TxnResult(
            succeeded=False,
            responses=[RangeResult([kv], 1, more=False, revision=created.revision)],
            revision=created.revision,
        )
        replaced = await store.txn(swap(created.revision, b"2"))
        assert replaced.succeeded
        assert await lab.value("a") == "2"

    run(scenario)


@pytest.mark.parametrize(
    ("target", "equal", "greater"),
    [
        (CompareTarget.VALUE, b"m", b"n"),
        (CompareTarget.VERSION, 2, 3),
        (CompareTarget.CREATE, None, None),
        (CompareTarget.MOD, None, None),
        (CompareTarget.LEASE, 0, 1),
    ],
)
def test_comparisons(run: Run, target: CompareTarget, equal: int | bytes | None, greater: int | bytes | None) -> None:
    async def scenario(lab: Lab) -> None:
        store, key = lab.store, lab.key("a")
        create = await lab.put("a", "x")
        mod = await lab.put("a", "m")
        same = equal if equal is not None else create if target is CompareTarget.CREATE else mod
        more = greater if greater is not None else mod + 10

        async def holds(op: str, value: int | bytes) -> bool:
            return (await store.txn(Txn([Compare(key, target, op, value)]))).succeeded  # type: ignore[arg-type]

        assert [await holds(op, same) for op in ("=", "!=", "<", ">")] == [True, False, False, False]
        assert [await holds(op, more) for op in ("=", "!=", "<", ">")] == [False, True, True, False]

    run(scenario)


def test_comparisons_of_ranges_and_absent_keys(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        await lab.put("a", "1")
        await lab.put("b", "1")
        await lab.put("b", "1")

        async def holds(
            target: CompareTarget, op: str, value: int | bytes, name: str = "", *, ranged: bool = True
        ) -> bool:
            compare = Compare(lab.key(name), target, op, value, lab.end if ranged else None)  # type: ignore[arg-type]
            return (await lab.store.txn(Txn([compare]))).succeeded

        assert await holds(CompareTarget.VALUE, "=", b"1")
        assert not await holds(CompareTarget.VERSION, "=", 1)
        assert await holds(CompareTarget.VERSION, "<", 3)
        assert await holds(CompareTarget.VERSION, "=", 0, "none", ranged=False)
        assert await holds(CompareTarget.CREATE, "=", 0, "none")
        assert not await holds(CompareTarget.VALUE, "=", b"", "none", ranged=False)
        assert not await holds(CompareTarget.VALUE, "!=", b"x", "none", ranged=False)

    run(scenario)


def test_a_transaction_is_one_revision_and_reads_its_own_writes(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        store = lab.store
        await lab.put("old", "o")
        base = await store.current_revision()
        key = lab.key("a")
        result = await store.txn(
            Txn([], [Range(key), Put(key, b"1"), Range(key), Delete(lab.key("old"), prev_kv=True), Put(lab.key("b"))])
        )
        assert result.revision == base + 1
        before, _, after, deleted, _ = result.responses
        assert isinstance(before, RangeResult)
        assert isinstance(after, RangeResult)
        assert isinstance(deleted, DeleteResult)
        assert before.kvs == []
        assert after.kvs == [KeyValue(key, b"1", base + 1, base + 1, 1)]
        assert deleted.prev_kvs[0].value == b"o"
        (b,) = (await store.range(Range(lab.key("b")))).kvs
        assert b.mod_revision == base + 1
        assert await store.current_revision() == base + 1

    run(scenario)


def test_nested_transactions_decide_by_the_state_before(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        store, key = lab.store, lab.key("a")
        exists = Compare(key, CompareTarget.VERSION, ">", 0)
        inner = Txn([exists], [Put(lab.key("yes"))], [Put(lab.key("no"))])
        result = await store.txn(Txn([], [Put(key), inner]))
        (_, nested) = result.responses
        assert isinstance(nested, TxnResult)
        assert not nested.succeeded
        assert await lab.names() == ["a", "no"]
        assert (await store.range(Range(lab.prefix, lab.end, result.revision))).count == 2

    run(scenario)


def test_transactions_that_are_refused_do_nothing(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        store = lab.store
        await lab.put("kept")
        base = await store.current_revision()
        a, b = lab.key("a"), lab.key("b")
        with pytest.raises(InvalidRequest, match="duplicate key"):
            await store.txn(Txn([], [Put(a), Put(a)]))
        with pytest.raises(InvalidRequest, match="duplicate key"):
            await store.txn(Txn([], [Delete(lab.prefix, lab.end), Put(a)]))
        with pytest.raises(InvalidRequest, match="duplicate key"):
            await store.txn(Txn([], [Put(a), Txn([], [Put(a)])]))
        with pytest.raises(InvalidRequest, match="too many operations"):
            await store.txn(Txn([], [Range(a)] * 129))
        with pytest.raises(LeaseNotFound):
            await store.txn(Txn([], [Put(a), Put(b, lease=4711)]))
        with pytest.raises(FutureRevision):
            await store.txn(Txn([], [Put(a), Range(b, revision=base + 1000)]))
        with pytest.raises(InvalidRequest, match="key not found"):
            await store.txn(Txn([], [Put(a), Put(b, ignore_value=True)]))
        assert await lab.names() == ["kept"]
        assert await store.current_revision() == base
        either = await store.txn(Txn([], [Txn([], [Put(a)], [Put(a)])]))
        assert either.revision == base + 1

    run(scenario)


# Watches


def test_a_watch_tells_each_change_in_order(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        watch = await lab.watch(prev_kv=True)
        base = await lab.put("a", "1")
        await lab.put("a", "2")
        await lab.delete("a")
        key = lab.key("a")
        one = KeyValue(key, b"1", base, base, 1)
        two = KeyValue(key, b"2", base, base + 1, 2)
        assert await read(watch, 3) == [
            Event(EventType.PUT, one),
            Event(EventType.PUT, two, one),
            Event(EventType.DELETE, KeyValue(key, b"", 0, base + 2, 0), two),
        ]
        await watch.close()

    run(scenario)


def test_a_watch_from_the_past_goes_on_to_the_present(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        revisions = [await lab.put(f"k{number:03}") for number in range(50)]
        watch = await lab.watch(revisions[10])
        past = await read(watch, 40)
        assert [event.kv.mod_revision for event in past] == revisions[10:]
        later = await lab.put("later")
        (event,) = await read(watch, 1)
        assert event.kv.mod_revision == later
        await watch.close()

    run(scenario)


def test_a_watch_from_the_future_waits_for_it(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        base = await lab.store.current_revision()
        watch = await lab.watch(base + 3)
        for name in ("a", "b", "c"):
            await lab.put(name)
        (event,) = await read(watch, 1)
        assert event.kv.key == lab.key("c")
        await watch.close()

    run(scenario)


def test_watches_see_their_keys_only(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        base = await lab.store.current_revision()
        single = await lab.store.watch(WatchRequest(lab.key("b"), None, base + 1))
        several = await lab.store.watch(WatchRequest(lab.key("b"), lab.key("d"), base + 1))
        to_the_end = await lab.store.watch(WatchRequest(lab.key("c"), b"\0", base + 1))
        no_puts = await lab.watch(base + 1, no_put=True)
        no_deletes = await lab.watch(base + 1, no_delete=True)
        for name in ("a", "b", "bb", "c", "d"):
            await lab.put(name)
        await lab.delete("c")

        async def told(watch: Watch, count: int) -> list[str]:
            events = await read(watch, count)
            await watch.close()
            return [event.type.name[0] + event.kv.key.removeprefix(lab.prefix).decode() for event in events]

        assert await told(single, 1) == ["Pb"]
        assert await told(several, 4) == ["Pb", "Pbb", "Pc", "Dc"]
        assert await told(to_the_end, 3) == ["Pc", "Pd", "Dc"]
        assert await told(no_puts, 1) == ["Dc"]
        assert await told(no_deletes, 5) == ["Pa", "Pb", "Pbb", "Pc", "Pd"]

    run(scenario)


def test_the_events_of_a_revision_come_together(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        watch = await lab.watch()
        await lab.store.txn(Txn([], [Put(lab.key(f"k{number}")) for number in range(100)]))
        batch = await next_batch(watch)
        assert len(batch.events) == 100
        await watch.close()
        again = await lab.watch(batch.events[0].kv.mod_revision)
        assert list((await next_batch(again)).events) == list(batch.events)
        await again.close()

    run(scenario)


def test_fragments_put_together_are_the_batch(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        base = await lab.store.current_revision()
        for number in range(4):
            await lab.put(f"k{number}", "x" * 900_000)
        watch = await lab.watch(base + 1, fragment=True)
        sizes, names = [], []
        while len(names) < 4:
            batch = await next_batch(watch)
            sizes.append(len(batch.events))
            names += [event.kv.key.decode()[-1] for event in batch.events]
        assert names == ["0", "1", "2", "3"]
        assert max(sizes) < 4
        await watch.close()
        await lab.store.delete(Delete(lab.prefix, lab.end))

    run(scenario)


def test_progress(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        watch = await lab.watch()
        await lab.put("a")
        await read(watch, 1)
        await watch.request_progress()
        batch = await next_batch(watch)
        assert not batch.events
        assert batch.revision <= await lab.store.current_revision()
        await watch.close()

    run(scenario)


def test_a_closed_watch_ends(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        watch = await lab.watch()
        reader = asyncio.create_task(_all(watch))
        await asyncio.sleep(0)
        await lab.put("a")
        await watch.close()
        assert await asyncio.wait_for(reader, 5) in ([], [lab.key("a")])

    async def _all(watch: Watch) -> list[bytes]:
        return [event.kv.key async for batch in watch for event in batch.events]

    run(scenario)


def test_a_reader_that_is_cancelled_loses_nothing(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        watch = await lab.watch()
        events: list[Event] = []
        for number in range(5):
            reader = asyncio.create_task(next_batch(watch))
            await asyncio.sleep(0)
            await lab.put(f"k{number}")
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            if not reader.cancelled():
                events += reader.result().events
        events += await read(watch, 5 - len(events))
        assert [event.kv.key.decode()[-1] for event in events] == ["0", "1", "2", "3", "4"]
        await watch.close()

    run(scenario)


# Compaction


def test_compaction_forgets_the_past_and_nothing_else(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        store = lab.store
        revisions = [await lab.put("a", str(number)) for number in range(5)]
        await lab.put("gone")
        await lab.delete("gone")
        await lab.put("b")
        middle = revisions[3]
        now = await store.current_revision()
        assert await store.compact(middle, physical=True) == now
        with pytest.raises(Compacted):
            await lab.names(revisions[2])
        assert await lab.value("a", middle) == "3"
        assert await lab.names() == ["a", "b"]
        (kv,) = (await store.range(Range(lab.key("a")))).kvs
        assert (kv.create_revision, kv.mod_revision, kv.version) == (revisions[0], revisions[4], 5)
        with pytest.raises(Compacted):
            await store.compact(middle)
        with pytest.raises(FutureRevision):
            await store.compact(now + 1000)
        watch = await lab.watch(revisions[0])
        with pytest.raises(Compacted) as caught:
            await next_batch(watch)
        assert caught.value.compact_revision == middle
        await watch.close()
        watch = await lab.watch(revisions[4])
        assert len(await read(watch, 4)) == 4
        await watch.close()
        await store.compact(now, physical=True)
        assert await lab.names() == ["a", "b"]
        await lab.put("gone", "again")
        (kv,) = (await store.range(Range(lab.key("gone")))).kvs
        assert kv.version == 1

    run(scenario)


# Leases


def test_leases(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        store = lab.store
        lease = await store.lease_grant(100)
        assert lease.granted_ttl == 100
        await lab.put("a", lease=lease.id)
        await lab.put("b", lease=lease.id)
        await lab.put("c", lease=lease.id)
        await lab.put("c")
        status = await store.lease_status(lease.id, keys=True)
        assert (status.granted_ttl, list(status.keys)) == (100, [lab.key("a"), lab.key("b")])
        assert 0 < status.ttl <= 100
        assert (await store.lease_keep_alive(lease.id)).ttl == 100
        assert lease.id in await store.leases()
        before = await store.current_revision()
        watch = await lab.watch(before + 1)
        await store.lease_revoke(lease.id)
        events = await read(watch, 2)
        assert {event.kv.mod_revision for event in events} == {before + 1}
        assert await lab.names() == ["c"]
        assert (await store.lease_status(lease.id)).ttl == -1
        assert lease.id not in await store.leases()
        with pytest.raises(LeaseNotFound):
            await store.lease_revoke(lease.id)
        with pytest.raises(LeaseNotFound):
            await store.lease_keep_alive(lease.id)
        await watch.close()

    run(scenario)


def test_leases_by_number(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        store = lab.store
        number = 1_000_000 + next(_numbers)
        assert (await store.lease_grant(50, number)).id == number
        with pytest.raises(LeaseExists):
            await store.lease_grant(50, number)
        with pytest.raises(InvalidRequest, match="too large lease TTL"):
            await store.lease_grant(9_000_000_001)
        await store.lease_revoke(number)

    run(scenario)


def test_a_lease_that_runs_out_takes_its_keys_along(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        lease = await lab.store.lease_grant(1)
        assert lease.ttl == 2  # etcd's least, with its default timeouts
        watch = await lab.watch()
        await lab.put("a", lease=lease.id)
        put, deleted = await read(watch, 2)
        assert (put.type, deleted.type) == (EventType.PUT, EventType.DELETE)
        assert await lab.names() == []
        await watch.close()

    run(scenario)


def test_health(run: Run) -> None:
    async def scenario(lab: Lab) -> None:
        await lab.store.healthy()

    run(scenario)
