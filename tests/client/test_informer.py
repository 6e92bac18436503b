"""What an informer makes of lists and watches that end, are cut, or have lost their place."""

from __future__ import annotations

import asyncio
import random
from urllib.parse import parse_qs

import pytest

from tests.client.scripted import Answer, Script, failure, listed, run, text, thing, watched
from tiphys.api.object import Object
from tiphys.client.informer import Callbacks, Informer, InformerFactory, Store
from tiphys.client.resources import CONFIG_MAPS, SECRETS
from tiphys.client.rest import Client
from tiphys.runtime.clock import VirtualClock


class Notes:
    """A handler that writes down what it is notified of."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def added(self, obj: Object, *, initial: bool) -> None:
        self.lines.append(f"{'first' if initial else 'added'} {_name(obj)}")

    def updated(self, old: Object, new: Object) -> None:
        self.lines.append(f"updated {_name(old)} {_name(new)}")

    def deleted(self, obj: Object) -> None:
        self.lines.append(f"deleted {_name(obj)}")


def _name(obj: Object) -> str:
    return f"{obj['metadata']['name']}@{obj['metadata']['resourceVersion']}"


A1, A3, B2, B4 = thing("a", 1), thing("a", 3), thing("b", 2), thing("b", 4)
GONE = failure(410, "Expired", "too old")
CUT = ConnectionError("cut")
OPEN = watched(open=True)

SCENARIOS: dict[str, tuple[list[Answer | Exception], list[str], list[str]]] = {
    "changes arrive in order": (
        [listed(1, A1), watched(("ADDED", B2), ("MODIFIED", A3), ("DELETED", B4), open=True)],
        ["first a@1", "added b@2", "updated a@1 a@3", "deleted b@4"],
        ["list 0", "watch 1"],
    ),
    "a watch that is cut is resumed where it was": (
        [listed(1, A1), watched(("ADDED", B2), error=CUT), watched(("MODIFIED", A3), open=True)],
        ["first a@1", "added b@2", "updated a@1 a@3"],
        ["list 0", "watch 1", "watch 2"],
    ),
    "a bookmark is a place to resume at": (
        [listed(1, A1), watched(("BOOKMARK", thing("", 7))), OPEN],
        ["first a@1"],
        ["list 0", "watch 1", "watch 7"],
    ),
    "a version that is gone lets it list again, and what went meanwhile is deleted": (
        [listed(2, A1, B2), watched(("ERROR", GONE)), listed(9, A1), OPEN],
        ["first a@1", "first b@2", "deleted b@2"],
        ["list 0", "watch 2", "list 0", "watch 9"],
    ),
    "an answer of 410 does, too, and what changed is updated": (
        [listed(1, A1), Answer(b"", status=410), listed(9, A3, B4), OPEN],
        ["first a@1", "updated a@1 a@3", "added b@4"],
        ["list 0", "watch 1", "list 0", "watch 9"],
    ),
    "a list that fails is tried again": (
        [ConnectionError("refused"), Answer(b"busy", status=503), Answer(b"{", status=200), listed(1, A1), OPEN],
        ["first a@1"],
        ["list 0", "list 0", "list 0", "list 0", "watch 1"],
    ),
    "watches that end again and again let it list": (
        [listed(1, A1), *(watched() for _ in range(5)), listed(3, A3), OPEN],
        ["first a@1", "updated a@1 a@3"],
        ["list 0", *["watch 1"] * 5, "list 0", "watch 3"],
    ),
    "what was known already is no news": (
        [listed(1, A1), watched(("MODIFIED", A1), ("DELETED", B2), open=True)],
        ["first a@1"],
        ["list 0", "watch 1"],
    ),
    "an empty list without items is one": (
        [text({"kind": "ConfigMapList", "metadata": {"resourceVersion": "5"}, "items": None}), OPEN],
        [],
        ["list 0", "watch 5"],
    ),
}


def asked(script: Script) -> list[str]:
    """``list 0``, ``watch 7``: the requests and their resource versions."""
    queries = [parse_qs(request.query) for request in script.requests]
    return [f"{'watch' if 'watch' in query else 'list'} {query['resourceVersion'][0]}" for query in queries]


async def follow(clock: VirtualClock, script: Script, *, seconds: float = 600, **more: object) -> Informer:
    """Follow the script for a while, until the informer waits for more."""
    informer = Informer(Client(script), CONFIG_MAPS, clock, rng=random.Random(1))
    for handler in more.get("handlers", ()):  # type: ignore[attr-defined]
        informer.add_handler(handler)
    task = asyncio.ensure_future(informer.run())
    await clock.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return informer


@pytest.mark.parametrize(("answers", "notes", "requests"), SCENARIOS.values(), ids=SCENARIOS)
def test_scenarios(answers: list[Answer | Exception], notes: list[str], requests: list[str]) -> None:
    async def work(clock: VirtualClock) -> None:
        handler, script = Notes(), Script(*answers)
        informer = await follow(clock, script, handlers=[handler])
        assert handler.lines == notes
        assert asked(script) == requests
        assert informer.synced
        assert not script.answers

    run(work)


def test_objects_have_the_kind_of_their_list_and_no_managed_fields() -> None:
    async def work(clock: VirtualClock) -> None:
        informer = await follow(clock, Script(listed(1, thing("a", 1, managedFields=[{}]))))
        obj = informer.store.get("n", "a")
        assert obj is not None
        assert (obj["kind"], obj["apiVersion"]) == ("ConfigMap", "v1")
        assert "managedFields" not in obj["metadata"]

    run(work)


def test_a_handler_and_an_object_that_fail_are_alone() -> None:
    async def work(clock: VirtualClock) -> None:
        def refuse(obj: Object) -> Object:
            if obj["metadata"]["name"] == "bad":
                raise ValueError("bad")
            return obj

        notes = Notes()
        failing = Callbacks(changed=lambda obj: 1 // 0)
        script = Script(listed(2, A1, thing("bad", 2)), watched(("ADDED", B2), open=True))
        informer = Informer(Client(script), CONFIG_MAPS, clock, transform=refuse)
        informer.add_handler(failing)
        informer.add_handler(notes)
        task = asyncio.ensure_future(informer.run())
        await informer.wait_synced()
        await clock.sleep(1)
        task.cancel()
        assert notes.lines == ["first a@1", "added b@2"]
        assert sorted(informer.store.keys()) == [("n", "a"), ("n", "b")]

    run(work)


def test_callbacks_are_by_kind_of_change_or_for_any() -> None:
    seen: list[str] = []
    every = Callbacks(changed=lambda obj: seen.append(f"any {_name(obj)}"))
    each = Callbacks(
        added=lambda obj: seen.append(f"added {_name(obj)}"),
        updated=lambda old, new: seen.append(f"updated {_name(new)}"),
        deleted=lambda obj: seen.append(f"deleted {_name(obj)}"),
    )
    for handler in (every, each, Callbacks()):
        handler.added(A1, initial=True)
        handler.updated(A1, A3)
        handler.deleted(A3)
    assert seen == ["any a@1", "any a@3", "any a@3", "added a@1", "updated a@3", "deleted a@3"]


def test_an_index_follows_its_objects() -> None:
    store = Store()
    store.put(thing("a", 1, labels={"app": "x"}))
    store.add_index("app", lambda obj: (obj["metadata"].get("labels") or {}).values())
    store.put(thing("b", 2, labels={"app": "x"}))
    assert [_name(obj) for obj in store.by_index("app", "x")] == ["a@1", "b@2"]
    assert store.put(thing("a", 3, labels={"app": "y"})) is not None
    assert [_name(obj) for obj in store.by_index("app", "x")] == ["b@2"]
    assert store.remove(("n", "b")) is not None
    assert store.remove(("n", "b")) is None
    assert store.by_index("app", "x") == []
    assert store.has_index("app")
    assert not store.has_index("other")
    assert len(store) == 1
    assert [_name(obj) for obj in store.list("n")] == ["a@3"] == [_name(obj) for obj in store.list()]
    assert store.list("elsewhere") == []


def test_a_late_handler_is_given_what_is_there() -> None:
    async def work(clock: VirtualClock) -> None:
        notes = Notes()
        informer = await follow(clock, Script(listed(1, A1)))
        informer.add_handler(notes)
        assert notes.lines == ["first a@1"]

    run(work)


def test_a_factory_has_one_informer_for_all_who_ask_and_starts_late_ones() -> None:
    async def work(clock: VirtualClock) -> None:
        script = Script(listed(1, A1), OPEN, listed(1))
        factory = InformerFactory(Client(script), clock, random.Random(1))
        first = factory.informer(CONFIG_MAPS)
        first.add_index("name", lambda obj: (obj["metadata"]["name"],))
        assert factory.informer(CONFIG_MAPS) is first is factory.existing(CONFIG_MAPS)
        assert factory.existing(SECRETS) is None
        task = asyncio.ensure_future(factory.run())
        await factory.wait_synced()
        late = factory.informer(SECRETS, namespace="n", label_selector="a=b", field_selector="type=x")
        assert late is not factory.informer(SECRETS, namespace="n", label_selector="a=b")
        await late.wait_synced()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        query = next(parse_qs(r.query) for r in script.requests if r.path.endswith("/n/secrets"))
        assert (query["labelSelector"], query["fieldSelector"]) == (["a=b"], ["type=x"])
        assert [_name(obj) for obj in first.store.by_index("name", "a")] == ["a@1"]

    run(work)
