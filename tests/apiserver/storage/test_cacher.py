"""The watch cache: windows that overflow, members that are slow, and changes that are lost while it is filled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import orjson
import pytest

from tiphys.api.errors import StatusError
from tiphys.api.resources import builtin_scheme
from tiphys.apiserver.storage import cacher as cacher_module
from tiphys.apiserver.storage import watchers
from tiphys.apiserver.storage.cacher import Cacher, NotReady
from tiphys.apiserver.storage.changes import EntryChange
from tiphys.apiserver.storage.entry import Codec, Entry
from tiphys.apiserver.storage.feed import Feed
from tiphys.apiserver.storage.selection import NAME, FieldTerm, Selection
from tiphys.apiserver.storage.watchers import WatcherGroup
from tiphys.runtime.clock import VirtualClock, VirtualTimeLoop
from tiphys.runtime.tasks import Runner
from tiphys.store.backend import Delete, Put, Range, RangeResult, StoreError
from tiphys.store.memory import MemoryBackend

PREFIX = "/registry/configmaps/"
EVERYTHING = Selection(PREFIX)


def one(name: str) -> Selection:
    return Selection(PREFIX, terms=(FieldTerm(NAME, name),), key=(name,))


class Stored(MemoryBackend):
    """A store whose reads can be held up, or fail."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: list[Exception] = []
        self.reads = 0
        self.seconds = 0.0
        """What a read takes."""

    async def range(self, request: Range) -> RangeResult:
        self.reads += 1
        if self.failures:
            raise self.failures.pop(0)
        page = await super().range(request)
        await self.gate.wait()
        await asyncio.sleep(self.seconds)
        return page


class Lab:
    """A store, its feed, and one cache of config maps."""

    def __init__(self, clock: VirtualClock, runner: Runner) -> None:
        self.clock = clock
        self.store = Stored(clock)
        self.feed = Feed(self.store, clock)
        resource = builtin_scheme().resource("", "configmaps")
        assert resource is not None
        codec = Codec(resource, lambda obj: ())
        self.cacher = Cacher(feed=self.feed, codec=codec, prefix=PREFIX, runner=runner, clock=clock)

    async def put(self, name: str, value: bytes | None = None, namespace: str = "n") -> int:
        text = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"%s","namespace":"%s"}}'
        stored = text % (name.encode(), namespace.encode()) if value is None else value
        return (await self.store.put(Put(f"{PREFIX}{namespace}/{name}".encode(), stored))).revision

    async def delete(self, name: str) -> int:
        return (await self.store.delete(Delete(f"{PREFIX}n/{name}".encode()))).revision

    async def settled(self) -> None:
        await self.feed.fresh()

    def watch(self, selection: Selection = EVERYTHING, form: str = "") -> Member:
        member = Member()
        member.group = self.cacher.watchers.join(member, selection, (form,), encode)
        return member

    @property
    def names(self) -> list[str]:
        return [entry.name for entry in self.cacher.under(PREFIX)]


class Member:
    """An open watch that keeps what it is sent."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ended = ""
        self.buffered = 0
        self.broken = False
        self.group: WatcherGroup | None = None

    def write(self, data: bytes) -> None:
        if self.broken:
            raise ConnectionError("broken")
        self.lines += data.decode().split()

    def cut_off(self) -> None:
        self.ended = self.ended or "cut off"

    def fail(self, error: Exception) -> None:
        self.ended = str(error)


def encode(kind: str, entry: Entry, change: EntryChange) -> bytes:
    return f"{kind}:{entry.name} ".encode()


def play(scene: Callable[[Lab], Awaitable[None]]) -> None:
    loop = VirtualTimeLoop()

    async def work() -> None:
        clock = VirtualClock(loop)
        async with Runner(clock) as runner:
            lab = Lab(clock, runner)
            await lab.feed.open()
            runner.supervise(lab.feed.run, "feed")
            try:
                await scene(lab)
            finally:
                await lab.store.close()

    try:
        loop.run_until_complete(work())
    finally:
        loop.close()


# Filling


def test_it_is_filled_by_pages_and_follows() -> None:
    async def scene(lab: Lab) -> None:
        for number in range(1200):
            await lab.put(f"m{number:04}")
        assert not lab.cacher.is_ready
        await lab.cacher.ready()
        assert len(lab.cacher) == 1200
        assert lab.store.reads == 3
        await lab.put("z")
        await lab.delete("m0000")
        await lab.settled()
        assert len(lab.cacher) == 1200
        assert lab.names[0] == "m0001"
        assert lab.names[-1] == "z"
        assert [entry.name for entry in lab.cacher.under(f"{PREFIX}n/", after=f"{PREFIX}n/m1198")] == [
            "m1198",
            "m1199",
            "z",
        ]

    play(scene)


def test_changes_while_it_is_filled_are_in_it_once() -> None:
    async def scene(lab: Lab) -> None:
        await lab.put("a")
        lab.store.gate.clear()
        filling = asyncio.ensure_future(lab.cacher.ready())
        await asyncio.sleep(0.01)
        await lab.put("b")
        await lab.delete("a")
        lab.store.gate.set()
        await filling
        await lab.settled()
        assert lab.names == ["b"]
        changes = lab.cacher.since(lab.cacher.oldest)
        assert changes is not None
        shown = ["gone" if change.entry is None else change.entry.name for change in changes]
        assert shown == ["b", "gone"]

    play(scene)


def test_what_is_lost_while_it_is_filled_is_read_again() -> None:
    async def scene(lab: Lab) -> None:
        await lab.put("a")
        lab.store.gate.clear()
        waiting = [asyncio.ensure_future(lab.cacher.ready()) for _ in range(3)]
        await asyncio.sleep(0.01)
        lab.cacher.lost()
        lab.cacher.lost()
        await lab.put("b")
        lab.store.gate.set()
        await asyncio.gather(*waiting)
        assert lab.cacher.is_ready
        await lab.settled()
        assert lab.names == ["a", "b"]

    play(scene)


def test_what_is_lost_before_anybody_asked_costs_nothing() -> None:
    async def scene(lab: Lab) -> None:
        lab.cacher.lost()
        await lab.clock.sleep(1)
        assert lab.store.reads == 0

    play(scene)


def test_a_store_that_fails_is_asked_again_and_who_cannot_wait_is_answered_429() -> None:
    async def scene(lab: Lab) -> None:
        await lab.put("a")
        lab.store.failures = [StoreError("away") for _ in range(20)]
        with pytest.raises(NotReady) as caught:
            await lab.cacher.ready(timeout=3)
        assert caught.value.code == 429
        await lab.cacher.ready()
        assert lab.names == ["a"]

    play(scene)


@pytest.mark.parametrize(("seconds", "is_enough"), [(2.0, True), (4.0, False)])
def test_who_needs_all_waits_for_as_long_as_the_filling_goes_on(*, seconds: float, is_enough: bool) -> None:
    async def scene(lab: Lab) -> None:
        for number in range(2000):
            await lab.put(f"m{number:04}")
        lab.store.seconds = seconds
        if is_enough:
            await lab.cacher.filled(stalled=3)
            assert len(lab.cacher) == 2000
            assert lab.clock.monotonic() >= 4 * seconds
        else:
            with pytest.raises(NotReady):
                await lab.cacher.filled(stalled=3)

    play(scene)


def test_filling_that_fails_is_that_reads_error_and_the_next_tries_again() -> None:
    async def scene(lab: Lab) -> None:
        lab.store.failures = [RuntimeError("bad page")]
        with pytest.raises(StatusError, match="cannot be filled: bad page"):
            await lab.cacher.ready()
        await lab.cacher.ready()

    play(scene)


def test_one_who_gives_up_waiting_does_not_end_the_filling_of_others() -> None:
    async def scene(lab: Lab) -> None:
        lab.store.gate.clear()
        first, second = (asyncio.ensure_future(lab.cacher.ready()) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(0.01)
        lab.store.gate.set()
        await second
        assert lab.cacher.is_ready
        assert lab.store.reads == 1

    play(scene)


# The window


def test_of_long_objects_fewer_changes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cacher_module, "WINDOW_BYTES", 1000)
    monkeypatch.setattr(cacher_module, "LEAST_WINDOW", 2)

    async def scene(lab: Lab) -> None:
        await lab.cacher.ready()
        text = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","namespace":"n"},"data":{"x":"%s"}}'
        for length, kept in ((10, 1), (10, 2), (10, 3), (2000, 2), (2000, 2), (10, 2), (10, 2), (10, 3)):
            await lab.put("a", text % (b"x" * length))
            await lab.settled()
            assert len(lab.cacher.since(lab.cacher.oldest) or ()) == kept

    play(scene)


def test_a_window_that_overflows_no_longer_knows_its_oldest_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cacher_module, "WINDOW", 3)

    async def scene(lab: Lab) -> None:
        await lab.cacher.ready()
        start = lab.cacher.oldest
        revisions = [await lab.put(name) for name in "abcd"]
        await lab.settled()
        assert lab.cacher.since(start) is None
        assert lab.cacher.oldest == revisions[0]
        for at, expected in ((0, "bcd"), (1, "cd"), (2, "d"), (3, "")):
            changes = lab.cacher.since(revisions[at])
            assert changes is not None
            assert "".join(change.entry.name for change in changes if change.entry) == expected
        assert lab.cacher.since(revisions[3] + 100) == []

    play(scene)


def test_it_shows_a_revision_after_its_last_change_that_is_not_compacted() -> None:
    async def scene(lab: Lab) -> None:
        await lab.cacher.ready()
        before = await lab.put("a")
        last = await lab.put("b")
        await lab.store.put(Put(b"/registry/secrets/n/a", b"{}"))
        await lab.settled()
        assert not lab.cacher.shows(before)
        assert lab.cacher.shows(last)
        assert lab.cacher.shows(lab.feed.revision)
        assert not lab.cacher.shows(lab.feed.revision + 1)
        lab.feed.forget(lab.feed.revision)
        assert not lab.cacher.shows(last)

    play(scene)


def test_changes_that_are_sent_again_are_taken_once() -> None:
    async def scene(lab: Lab) -> None:
        await lab.cacher.ready()
        watch = lab.watch()
        events = []
        changed = lab.cacher.changed

        def keep(got, revision):  # type: ignore[no-untyped-def]
            events.append(list(got))
            changed(got, revision)

        lab.cacher.changed = keep  # type: ignore[method-assign]
        await lab.put("a")
        await lab.put("b")
        await lab.settled()
        for batch in events:
            changed(batch, lab.feed.revision)
        assert watch.lines == ["ADDED:a", "ADDED:b"]

    play(scene)


# Values that cannot be read


def test_a_value_that_cannot_be_read_is_left_out_and_watches_keep_what_it_was() -> None:
    async def scene(lab: Lab) -> None:
        await lab.put("bad", b"no json")
        await lab.put("a")
        await lab.cacher.ready()
        watch = lab.watch()
        assert lab.names == ["a"]
        with pytest.raises(StatusError, match="cannot be read"):
            lab.cacher.get(f"{PREFIX}n/bad")
        with pytest.raises(StatusError):
            lab.cacher.check_readable(PREFIX)
        await lab.put("a", b"{")
        await lab.settled()
        assert lab.names == []
        assert [hidden.key for hidden in lab.cacher.hidden(PREFIX)] == [f"{PREFIX}n/a", f"{PREFIX}n/bad"]
        await lab.put("a")
        await lab.delete("bad")
        await lab.settled()
        assert watch.lines == ["MODIFIED:a"]
        lab.cacher.check_readable(PREFIX)
        assert lab.cacher.get(f"{PREFIX}n/other") is None

    play(scene)


# Watchers


def test_a_slow_member_is_cut_off_and_the_others_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "_LOOK_AFTER", 20)

    async def scene(lab: Lab) -> None:
        await lab.cacher.ready()
        slow, quick = lab.watch(), lab.watch()
        slow.buffered = watchers.MAX_BUFFERED + 1
        for name in "abc":
            await lab.put(name)
        await lab.settled()
        assert (slow.ended, quick.ended) == ("cut off", "")
        assert quick.lines == ["ADDED:a", "ADDED:b", "ADDED:c"]

    play(scene)


def test_a_member_that_cannot_be_written_to_is_alone() -> None:
    async def scene(lab: Lab) -> None:
        await lab.cacher.ready()
        broken, fine = lab.watch(), lab.watch()
        broken.broken = True
        await lab.put("a")
        await lab.settled()
        assert (broken.ended, fine.lines) == ("cut off", ["ADDED:a"])

    play(scene)


def test_what_cannot_be_encoded_ends_its_group_only() -> None:
    def refuse(kind: str, entry: Entry, change: EntryChange) -> bytes:
        raise ValueError("no such form")

    async def scene(lab: Lab) -> None:
        await lab.cacher.ready()
        other = Member()
        lab.cacher.watchers.join(other, EVERYTHING, ("other",), refuse)
        fine = lab.watch()
        await lab.put("a")
        await lab.settled()
        assert (other.ended, fine.lines) == ("no such form", ["ADDED:a"])

    play(scene)


def test_losing_the_feed_ends_every_watch_and_a_later_one_continues() -> None:
    async def scene(lab: Lab) -> None:
        await lab.cacher.ready()
        watches = [lab.watch(), lab.watch(one("a"))]
        lab.cacher.lost()
        assert [watch.ended for watch in watches] == ["cut off", "cut off"]
        for watch in watches:
            assert watch.group is not None
            lab.cacher.watchers.leave(watch, watch.group)
        await lab.cacher.ready()
        later = lab.watch()
        await lab.put("a")
        await lab.settled()
        assert later.lines == ["ADDED:a"]
        assert len(lab.cacher.watchers) == 1

    play(scene)


def test_a_watch_of_one_object_sees_its_changes_and_no_others() -> None:
    async def scene(lab: Lab) -> None:
        await lab.cacher.ready()
        own, all_of_them = lab.watch(one("a")), lab.watch()
        namespace = lab.watch(Selection(f"{PREFIX}o/", namespace="o", key=("o",)))
        assert lab.cacher.watchers.unselective == 1
        await lab.put("a")
        await lab.put("b")
        await lab.put("c", namespace="o")
        await lab.put("a")
        await lab.delete("a")
        await lab.settled()
        assert own.lines == ["ADDED:a", "MODIFIED:a", "DELETED:a"]
        assert namespace.lines == ["ADDED:c"]
        assert len(all_of_them.lines) == 5

    play(scene)


def test_bookmarks_are_for_those_who_asked() -> None:
    async def scene(lab: Lab) -> None:
        await lab.cacher.ready()
        plain, asking = lab.watch(), lab.watch(form="bookmarks")
        assert asking.group is not None
        asking.group.bookmark = lambda revision: orjson.dumps(revision) + b" "
        lab.cacher.watchers.mark(7)
        assert (plain.lines, asking.lines) == ([], ["7"])

    play(scene)


def test_who_follows_the_cache_and_fails_does_not_stop_it() -> None:
    async def scene(lab: Lab) -> None:
        await lab.cacher.ready()
        calls: list[str] = []
        lab.cacher.follow(lambda: 1 // 0)  # type: ignore[arg-type,return-value]
        lab.cacher.follow(lambda: calls.append("first"))
        with lab.cacher.followed(lambda: calls.append("second")):
            await lab.put("a")
            await lab.settled()
        assert lab.names == ["a"]
        assert calls == ["first", "second"]
        await lab.put("b")
        await lab.settled()
        assert calls == ["first", "second", "first"]

    play(scene)
