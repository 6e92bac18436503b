"""What one failure inside the store does not stop: other leases, watches, commits, and the word about its health."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tiphys.runtime.clock import VirtualClock, VirtualTimeLoop
from tiphys.store import newest
from tiphys.store.autocompact import RevisionWindow, run
from tiphys.store.backend import Compacted, NoSpace, Put, StoreError, Unavailable, WatchRequest
from tiphys.store.etcdserver.health import Pages
from tiphys.store.etcdserver.member import Member
from tiphys.store.memory import MemoryBackend
from tiphys.wire.http import Request


def on_virtual_time(scenario: Callable[[MemoryBackend, VirtualClock], Awaitable[None]]) -> None:
    """Run a scenario with a store in memory, and close the store."""
    loop = VirtualTimeLoop()
    clock = VirtualClock(loop)

    async def main() -> None:
        store = MemoryBackend(clock)
        try:
            await scenario(store, clock)
        finally:
            await store.close()

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def failing(function: Callable[..., Any], *errors: Exception) -> Callable[..., Any]:
    """The coroutine function, whose first calls raise these."""
    left = list(errors)

    async def call(*args: Any, **more: Any) -> Any:
        if left:
            raise left.pop(0)
        return await function(*args, **more)

    return call


@pytest.mark.parametrize("error", [NoSpace(), RuntimeError("something else")])
def test_a_lease_that_cannot_be_ended_at_once_ends_later(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    async def scenario(store: MemoryBackend, clock: VirtualClock) -> None:
        monkeypatch.setattr(store, "lease_revoke", failing(store.lease_revoke, error))
        first, second = await store.lease_grant(10), await store.lease_grant(60)
        for lease in (first, second):
            await store.put(Put(b"/%d" % lease.id, lease=lease.id))
        await clock.sleep(59)
        assert list(await store.leases()) == [second.id]
        await clock.sleep(2)
        assert list(await store.leases()) == []
        assert (await store.current_revision()) == 5

    on_virtual_time(scenario)


def test_a_lease_that_its_owner_ends_first_disturbs_no_other() -> None:
    async def scenario(store: MemoryBackend, clock: VirtualClock) -> None:
        leases = [await store.lease_grant(10) for _ in range(3)]
        expired = store.lessor.expired

        def late(now: float) -> list[int]:
            found = list(expired(now))
            for id in found[:1]:
                store.lessor.end(id)
            return found

        store.lessor.expired = late  # type: ignore[method-assign]
        await clock.sleep(11)
        assert len(leases) == 3
        assert list(await store.leases()) == []

    on_virtual_time(scenario)


def test_changes_that_cannot_be_shown_at_once_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(store: MemoryBackend, clock: VirtualClock) -> None:
        watches = [await store.watch(WatchRequest(b"/", b"0")) for _ in range(2)]
        await store.put(Put(b"/a", b"1"))
        with monkeypatch.context() as patch:
            patch.setattr(store.hub, "_gather", lambda changes: 1 / 0)
            await store.put(Put(b"/b", b"2"))
        await store.put(Put(b"/c", b"3"))
        for watch in watches:
            seen: list[bytes] = []
            while len(seen) < 3:
                seen += [event.kv.key for event in (await anext(watch)).events]
            assert seen == [b"/a", b"/b", b"/c"]

    on_virtual_time(scenario)


def test_a_quiet_watch_is_sent_its_progress() -> None:
    async def scenario(store: MemoryBackend, clock: VirtualClock) -> None:
        store.progress_interval = 600.0
        silent = await store.watch(WatchRequest(b"/mine"))
        told = await store.watch(WatchRequest(b"/mine", progress_notify=True))
        await store.put(Put(b"/other"))
        batch = await anext(told)
        assert (batch.revision, list(batch.events)) == (2, [])
        assert clock.monotonic() >= 600
        assert not silent.ready()

    on_virtual_time(scenario)


def test_a_closed_store_opens_no_watch() -> None:
    async def scenario(store: MemoryBackend, clock: VirtualClock) -> None:
        await store.close()
        with pytest.raises(Unavailable, match="server stopped"):
            await store.watch(WatchRequest(b"/"))

    on_virtual_time(scenario)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [(StoreError("no room"), [3, 3]), (Compacted(3), [3, 6])],
    ids=["is tried again", "was done by somebody else"],
)
def test_a_compaction_that_fails(monkeypatch: pytest.MonkeyPatch, error: Exception, wanted: list[int]) -> None:
    asked: list[int] = []

    async def scenario(store: MemoryBackend, clock: VirtualClock) -> None:
        compact = failing(store.compact, error)

        async def noted(revision: int) -> int:
            asked.append(revision)
            return int(await compact(revision))

        monkeypatch.setattr(store, "compact", noted)
        policy = RevisionWindow(2)
        task = asyncio.create_task(run(store, policy, clock))
        for _ in range(4):
            await store.put(Put(b"/a"))
        await clock.sleep(policy.interval + 1)
        if isinstance(error, Compacted):
            for _ in range(3):
                await store.put(Put(b"/a"))
        await clock.sleep(policy.interval)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    on_virtual_time(scenario)
    assert asked == wanted


def test_a_revision_that_cannot_be_written_down_is_said_once_and_fails_no_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = newest.NewestRevision(tmp_path, 7)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(os, "pwrite", full)
        patch.setattr(os, "fdatasync", full)
        file.write(8)
        file.write(9)
        file.sync()
    assert newest.read(tmp_path) == 7
    said = [record.getMessage() for record in caplog.records]
    assert [("so that a loss may go unnoticed" in text, "to the disk" in text) for text in said] == [
        (True, False),
        (False, True),
    ]
    file.write(10)
    file.close()
    assert newest.read(tmp_path) == 10


@pytest.mark.parametrize(
    ("error", "path", "status", "body"),
    [
        (Unavailable("etcdserver: server stopped"), "/health", 503, "etcdserver: server stopped"),
        (Unavailable("etcdserver: server stopped"), "/livez", 503, "livez check failed: etcdserver: server stopped"),
        (Unavailable("etcdserver: server stopped"), "/readyz", 503, "readyz check failed: etcdserver: server stopped"),
        (NoSpace(), "/livez", 200, "ok"),
        (NoSpace(), "/health", 503, "ALARM NOSPACE"),
        (NoSpace(), "/health?exclude=NOSPACE", 200, ""),
    ],
)
def test_a_store_that_is_not_well_says_so(
    monkeypatch: pytest.MonkeyPatch, error: Exception, path: str, status: int, body: str
) -> None:
    async def scenario(store: MemoryBackend, clock: VirtualClock) -> None:
        monkeypatch.setattr(store, "healthy", failing(store.healthy, error))
        pages = Pages(Member(store))
        page, _, query = path.partition("?")
        answer = await pages.handle(Request("GET", page, query))
        text = bytes(answer.body).decode()  # type: ignore[arg-type]
        assert (answer.status, json.loads(text)["reason"] if "health" in path else text.strip()) == (status, body)
        assert (await pages.handle(Request("POST", page))).status == 405

    on_virtual_time(scenario)
