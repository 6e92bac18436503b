"""The durable engine: its file, its lock, a full disk, and the room that it gives back."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.store.etcds import embedded
from tiphys.runtime.clock import SystemClock, VirtualClock, VirtualTimeLoop
from tiphys.store import sqlite as sqlite_store
from tiphys.store.backend import Delete, NoSpace, Put, Range, Txn, Unavailable, WatchRequest
from tiphys.store.memory import MemoryBackend
from tiphys.store.sqlfile import FORMAT, CannotOpen
from tiphys.store.sqlite import SQLiteBackend


def open_and_close(directory: Path) -> None:
    async def main() -> None:
        async with embedded(directory):
            pass

    asyncio.run(main())


async def fill(store: SQLiteBackend, keys: int, size: int) -> None:
    await asyncio.gather(*(store.put(Put(b"/k/%06d" % number, bytes(size))) for number in range(keys)))


async def one_after_another(writes: Iterable[Awaitable[object]]) -> None:
    for write in writes:
        await write


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with embedded(tmp_path):
            program = (
                "import asyncio, sys; from tiphys.store.sqlite import SQLiteBackend;"
                "from tiphys.runtime.clock import SystemClock;"
                "asyncio.run(SQLiteBackend.open(sys.argv[1], SystemClock()))"
            )
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", program, str(tmp_path)], capture_output=True
            )
            assert b"is in use by process" in done.stderr
            with pytest.raises(CannotOpen, match="stop that process, or choose another directory"):
                await SQLiteBackend.open(tmp_path, SystemClock())

    asyncio.run(main())
    open_and_close(tmp_path)


@pytest.mark.parametrize("place", [0, 4096 * 3 + 1])
def test_a_damaged_file_is_refused(tmp_path: Path, place: int) -> None:
    async def main() -> None:
        async with embedded(tmp_path) as store:
            await fill(store, 500, 100)

    asyncio.run(main())
    file = tmp_path / "tiphys.db"
    data = bytearray(file.read_bytes())
    data[place : place + 2000] = b"\x55" * 2000
    file.write_bytes(data)
    with pytest.raises(CannotOpen, match=r"damaged or cannot be read.*restore the last snapshot"):
        open_and_close(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    open_and_close(tmp_path)
    connection = sqlite3.connect(tmp_path / "tiphys.db")
    connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    with pytest.raises(CannotOpen, match=r"newer Tiphys.*start the newer version"):
        open_and_close(tmp_path)


def test_the_data_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "etcd" / "member").mkdir(parents=True)
    with pytest.raises(CannotOpen, match="data of an etcd member"):
        open_and_close(tmp_path / "etcd")
    (tmp_path / "other").mkdir()
    connection = sqlite3.connect(tmp_path / "other" / "tiphys.db")
    connection.execute("CREATE TABLE t (a)")
    connection.close()
    with pytest.raises(CannotOpen, match="another program"):
        open_and_close(tmp_path / "other")


def test_everything_is_there_after_opening_again(tmp_path: Path) -> None:
    async def first() -> tuple[object, ...]:
        async with embedded(tmp_path) as store:
            await fill(store, 50, 10)
            await store.delete(Delete(b"/k/000007"))
            lease = await store.lease_grant(500)
            await store.put(Put(b"/leased", b"", lease.id))
            await store.compact(20)
            await store.put(Put(b"/k/000001", b"newer"))
            return await state(store, lease.id)

    async def state(store: SQLiteBackend, lease: int) -> tuple[object, ...]:
        return (
            (await store.range(Range(b"\0", b"\0"))).kvs,
            (await store.range(Range(b"\0", b"\0", 30))).kvs,
            await store.current_revision(),
            store.core.compacted,
            (await store.lease_status(lease, keys=True)).keys,
            await store.leases(),
        )

    async def second(lease: int) -> tuple[object, ...]:
        async with embedded(tmp_path) as store:
            found = await state(store, lease)
            assert (await store.put(Put(b"/x"))).revision == before[2] + 1  # type: ignore[operator]
            return found

    before = asyncio.run(first())
    assert asyncio.run(second(before[5][0])) == before  # type: ignore[index]


def test_a_store_that_is_compacted_does_not_grow(tmp_path: Path) -> None:
    async def main() -> None:
        async with embedded(tmp_path) as store:
            largest = 0
            for turn in range(12):
                await fill(store, 200, 4000)
                if turn >= 2:
                    await store.compact(await store.current_revision(), physical=True)
                if turn == 5:
                    largest = store.sizes()[0]
            size, used = store.sizes()
            assert size <= largest * 1.3
            assert used < 200 * 4000 * 2
            await store.delete(Delete(b"/k/", b"/k0"))
            await store.put(Put(b"/z"))
            await store.compact(await store.current_revision(), physical=True)
            await store.defragment()
            assert store.sizes()[0] < 100_000
            assert (tmp_path / "tiphys.db").stat().st_size < 100_000
            assert len(store.core.index.by_key) == 1

    asyncio.run(main())


def test_the_log_is_made_long_in_advance_and_what_is_behind_it_is_passed_over(tmp_path: Path) -> None:
    log, copy = tmp_path / "store" / "tiphys.db-wal", tmp_path / "copy"

    async def main() -> None:
        async with embedded(tmp_path / "store") as store:
            await store.put(Put(b"/k/first", bytes(1000)))
            assert log.stat().st_size < 100_000
            number = 0
            while log.stat().st_size < sqlite_store.LOG_BYTES:
                await store.put(Put(b"/k/%d" % number, bytes(1000)))
                number += 1
                assert number < 3000
            shutil.copytree(tmp_path / "store", copy)  # as a power cut leaves it
        async with embedded(copy) as store:
            assert (await store.range(Range(b"/k/", b"/k0", count_only=True))).count == number + 1

    asyncio.run(main())


@pytest.mark.parametrize("quick", [0.0, 60.0], ids=["commits in the thread", "commits on the loop"])
def test_the_log_is_carried_over_while_writes_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: float
) -> None:
    monkeypatch.setattr(sqlite_store, "CHECKPOINT_BYTES", 1 << 18)
    monkeypatch.setattr(sqlite_store, "LOG_BYTES", 1 << 19)
    monkeypatch.setattr(sqlite_store, "QUICK", quick)

    async def main() -> None:
        async def writer(store: SQLiteBackend, number: int) -> None:
            for turn in range(300):
                await store.put(Put(b"/k/%d/%d" % (number, turn), bytes(8192)))

        async with embedded(tmp_path) as store:
            await asyncio.gather(*(writer(store, number) for number in range(4)))
            log = tmp_path / "tiphys.db-wal"
            assert log.stat().st_size < 1200 * 8192 / 2
        async with embedded(tmp_path) as store:
            assert (await store.range(Range(b"/k/", b"/k0", count_only=True))).count == 1200

    asyncio.run(main())


def test_above_its_quota_the_store_takes_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        store = await SQLiteBackend.open(tmp_path, SystemClock(), quota=2_000_000)
        writes = (store.put(Put(b"/k/%d" % (number % 5), bytes(10_000))) for number in range(1000))
        with pytest.raises(NoSpace):
            await one_after_another(writes)
        with pytest.raises(NoSpace):
            await store.healthy()
        assert (await store.range(Range(b"/k/", b"/k0"))).count == 5
        await store.delete(Delete(b"/k/1"))
        await store.compact(await store.current_revision(), physical=True)
        await store.set_no_space(on=False)
        await store.put(Put(b"/k/1"))
        await store.healthy()
        await store.close()

    asyncio.run(main())


def test_the_alarm_outlives_a_restart_until_somebody_takes_it_back(tmp_path: Path) -> None:
    """As etcd: neither room that was made nor a larger quota takes it back."""

    async def reopened(quota: int) -> SQLiteBackend:
        return await SQLiteBackend.open(tmp_path, SystemClock(), quota=quota)

    async def main() -> None:
        store = await reopened(1 << 20)
        with pytest.raises(NoSpace):
            await one_after_another(store.put(Put(b"/k/1", bytes(100_000))) for _ in range(20))
        await store.close()
        store = await reopened(1 << 30)
        with pytest.raises(NoSpace):
            await store.put(Put(b"/k/2"))
        await store.set_no_space(on=False)
        await store.put(Put(b"/k/2"))
        await store.close()
        store = await reopened(1 << 30)
        assert not store.no_space()
        await store.set_no_space(on=True)
        await store.close()
        store = await reopened(0)
        with pytest.raises(NoSpace):
            await store.put(Put(b"/k/3"))
        await store.close()

    asyncio.run(main())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tiphys-test", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.root
def test_a_full_disk(small_disk: Path) -> None:
    async def main() -> None:
        async with embedded(small_disk / "data") as store:
            watch = await store.watch(WatchRequest(b"/", b"0"))
            await store.put(Put(b"/first", b"1"))
            ballast = small_disk / "ballast"
            ballast.write_bytes(bytes(18_000_000))
            acknowledged = 1
            refused: list[BaseException] = []

            async def client(number: int) -> None:
                nonlocal acknowledged
                for turn in range(2000):
                    try:
                        await store.put(Put(b"/%d/%d" % (number, turn), bytes(2000)))
                        acknowledged += 1
                    except NoSpace as error:
                        refused.append(error)
                        return

            await asyncio.gather(*(client(number) for number in range(8)))
            assert len(refused) == 8
            assert (await store.range(Range(b"/", b"0"))).count == acknowledged
            assert await store.current_revision() == acknowledged + 1
            with pytest.raises(NoSpace):
                await store.healthy()
            ballast.unlink()
            await store.healthy()
            after = await store.put(Put(b"/after"))
            assert after.revision == acknowledged + 2
            seen = 0
            while seen < acknowledged + 1:
                seen += len((await anext(watch)).events)
            assert seen == acknowledged + 1
        async with embedded(small_disk / "data") as store:
            assert (await store.range(Range(b"/", b"0"))).count == acknowledged + 1

    asyncio.run(main())


def test_a_closed_store_takes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        store = await SQLiteBackend.open(tmp_path, SystemClock())
        writes = [asyncio.create_task(store.put(Put(b"/%d" % number))) for number in range(10)]
        await asyncio.sleep(0)
        await store.close()
        assert all(await asyncio.gather(*writes))
        with pytest.raises(Unavailable):
            await store.put(Put(b"/late"))
        async with embedded(tmp_path) as again:
            assert (await again.range(Range(b"/", b"0"))).count == 10

    asyncio.run(main())


def test_a_cancelled_writer_does_not_disturb_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with embedded(tmp_path) as store:
            writes = [asyncio.create_task(store.put(Put(b"/%d" % number))) for number in range(20)]
            await asyncio.sleep(0)
            for task in writes[::2]:
                task.cancel()
            results = await asyncio.gather(*writes, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
            assert not any(isinstance(result, BaseException) for result in results[1::2])
            await store.put(Put(b"/last"))
            assert await store.current_revision() == 22

    asyncio.run(main())


def test_a_slow_watch_catches_up_from_history(tmp_path: Path) -> None:
    async def main() -> None:
        async with embedded(tmp_path) as store:
            watch = await store.watch(WatchRequest(b"/", b"0"))
            for turn in range(3):
                await asyncio.gather(*(store.put(Put(b"/%d/%d" % (turn, number))) for number in range(6000)))
            seen: list[int] = []
            while len(seen) < 18_000:
                seen += [event.kv.mod_revision for event in (await anext(watch)).events]
            assert seen == list(range(2, 18_002))

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_on_virtual_time(kind: str, tmp_path: Path) -> None:
    loop = VirtualTimeLoop()
    clock = VirtualClock(loop)

    async def main() -> float:
        store = MemoryBackend(clock) if kind == "memory" else await SQLiteBackend.open(tmp_path, clock)
        lease = await store.lease_grant(3600)
        await store.put(Put(b"/leased", lease=lease.id))
        await clock.sleep(3000)
        await store.lease_keep_alive(lease.id)
        watch = await store.watch(WatchRequest(b"/leased"))
        batch = await anext(watch)
        assert batch.events[0].type.name == "DELETE"
        found = clock.monotonic()
        await store.close()
        return found

    try:
        assert loop.run_until_complete(main()) == pytest.approx(6600, abs=1)
    finally:
        loop.close()


def test_the_quota_counts_before_a_write(tmp_path: Path) -> None:
    """As etcd: a write that would outgrow it is refused, whatever many are under way, and so is its larger branch."""

    async def main() -> None:
        store = await SQLiteBackend.open(tmp_path, SystemClock(), quota=4 << 20)
        value = bytes(533_000)
        answers = await asyncio.gather(
            *(store.put(Put(b"q%d" % number, value)) for number in range(40)), return_exceptions=True
        )
        taken = sum(not isinstance(answer, BaseException) for answer in answers)
        assert taken == 7
        assert all(isinstance(answer, NoSpace) for answer in answers[taken:])
        assert store.no_space()
        assert store.sizes()[1] < 4 << 20
        await store.set_no_space(on=False)
        with pytest.raises(NoSpace):
            await store.txn(Txn((), [Delete(b"q1")], [Put(b"q1", value)]))
        await store.set_no_space(on=False)
        await store.put(Put(b"small"))
        await store.close()

    asyncio.run(main())
