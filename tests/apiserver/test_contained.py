"""Every callback of every shared task of the API server raises once: others are served, and health says what is so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from tests.apiserver.apiworld import World, config_map, run
from tests.faults import Fault, Injected
from tiphys.api.object import Object
from tiphys.apiserver.storage.watchers import WatcherGroup
from tiphys.store.backend import Put
from tiphys.wire.memory import MemorySink

MAP = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"%s","namespace":"default"}}'
MAPS, SECRETS = "/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/default/secrets"
ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
DEFINED = ("apiextensions.k8s.io", "customresourcedefinitions")
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"


class Watching:
    """An open watch and the events that it has shown."""

    def __init__(self, world: World, path: str) -> None:
        self.sink = MemorySink()
        self._world, self._path = world, path

    async def start(self) -> Watching:
        response = await self._world.raw("GET", self._path)
        assert callable(response.body)
        self.task = asyncio.ensure_future(response.body(self.sink))
        await asyncio.sleep(0)
        return self

    @property
    def events(self) -> list[Object]:
        return [orjson.loads(line) for piece in self.sink._pieces for line in piece.splitlines()]

    @property
    def names(self) -> list[str]:
        return [event["object"]["metadata"].get("name", "") for event in self.events]


def definition(plural: str) -> Object:
    names = {"plural": plural, "singular": plural, "kind": plural.title()}
    schema = {"openAPIV3Schema": {"type": "object"}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    spec = {"group": "a.example", "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": f"{plural}.a.example"}, "spec": spec}


async def touch_everything(world: World, round: str) -> None:
    """One change of whatever the shared tasks follow, and time for those that run by the clock."""
    await world.raw("POST", MAPS, config_map(f"m{round}"))
    await world.raw("POST", SECRETS, {"metadata": {"name": f"s{round}"}})
    await world.raw("POST", CRDS, definition(f"things{round}"))
    service = {"group": f"g{round}.example", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
               "service": {"name": "x", "namespace": "default"}}  # fmt: skip
    await world.raw("POST", SERVICES, {"metadata": {"name": f"v1.g{round}.example"}, "spec": service})
    role = {"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}]}
    await world.raw(
        "POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", {"metadata": {"name": f"r{round}"}, **role}
    )
    await world.clock.sleep(400)
    await world.raw("GET", f"{MAPS}/m{round}", user=("somebody", ()))  # by the rules of RBAC


async def all_is_well(world: World, round: str) -> None:
    for path in (MAPS, SECRETS, CRDS, f"/apis/a.example/v1/namespaces/default/things{round}"):
        answer = await world.raw("GET", path)
        assert answer.status == 200, path
    assert (await world.raw("GET", f"{MAPS}/m{round}")).status == 200
    for health in ("/readyz", "/livez", "/healthz"):
        assert (await world.raw("GET", health)).status == 200, health


Place = Callable[[World], tuple[Any, str]]


def cacher(world: World, group: str, plural: str) -> Any:
    return world.server.registries.get(group, plural).store.cacher


class Replaceable:
    """A follower whose ``call`` a fault can take the place of."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = self._real = call

    def __call__(self) -> None:
        self.call()

    def __eq__(self, other: object) -> bool:
        return other == self._real

    __hash__ = None  # type: ignore[assignment]


def follower(world: World, group: str, plural: str) -> tuple[Any, str]:
    followers = cacher(world, group, plural)._followers
    assert len(followers) == 1
    place = Replaceable(followers[0])
    followers[0] = place
    return place, "call"


PLACES: dict[str, Place] = {
    "a cache takes changes": lambda world: (cacher(world, "", "configmaps"), "changed"),
    "a cache applies one": lambda world: (cacher(world, "", "configmaps"), "_apply"),
    "an object is read": lambda world: (cacher(world, "", "configmaps").codec, "_splice"),
    "watchers are told": lambda world: (cacher(world, "", "configmaps").watchers, "send"),
    "the follower of definitions": lambda world: follower(world, *DEFINED),
    "the follower of services": lambda world: follower(world, "apiregistration.k8s.io", "apiservices"),
    "the feed delivers": lambda world: (world.server._feed, "_deliver"),
    "the feed advances": lambda world: (world.server._feed, "_advance"),
    "the store publishes": lambda world: (world.backend.hub, "_gather"),
    "the store offers": lambda world: (next(iter(world.backend.hub.watches)), "offer"),
    "a definition is served": lambda world: (world.server._definitions._serving, "_put"),
    "a definition is settled": lambda world: (world.server._definitions, "_look_at"),
    "definitions are looked at": lambda world: (world.server._definitions, "_look_at_all"),
    "the server is kept known": lambda world: (world.server._bootstrap._service, "ensure"),
    "its lease is renewed": lambda world: (world.server._bootstrap._identity, "renew"),
    "compaction": lambda world: (world.server._compactor, "compact"),
    "bookmarks": lambda world: (cacher(world, "", "configmaps").watchers, "mark"),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_callback_that_raises_once_stops_nobody(place: str) -> None:
    async def work(world: World) -> None:
        await touch_everything(world, "0")
        others = await Watching(world, f"{SECRETS}?watch=1").start()
        fault = Fault(*PLACES[place](world))
        await touch_everything(world, "1")
        assert fault.hits == 1, "the fault was never reached"
        await touch_everything(world, "2")
        await all_is_well(world, "2")
        assert "s2" in others.names
        fresh = await Watching(world, f"{MAPS}?watch=1").start()
        await world.raw("POST", MAPS, config_map("last"))
        await world.settle()
        assert {"m2", "last"} <= set(fresh.names)

    run(work)


def test_a_watch_that_cannot_be_shown_ends_with_an_error_and_no_other_does(monkeypatch: pytest.MonkeyPatch) -> None:
    render = WatcherGroup.render

    def failing(group: WatcherGroup, changes: Any) -> bytes:
        if group.selection.labels is not None:
            raise Injected("no webhook")
        return render(group, changes)

    async def work(world: World) -> None:
        bad = await Watching(world, f"{MAPS}?watch=1&labelSelector=a").start()
        good = await Watching(world, f"{MAPS}?watch=1").start()
        monkeypatch.setattr(WatcherGroup, "render", failing)
        await world.raw("POST", MAPS, config_map("x", a="b"))
        await world.clock.sleep(1)
        assert bad.task.done()
        assert [event["type"] for event in bad.events] == ["ERROR"]
        assert bad.events[0]["object"]["code"] == 500
        assert "x" in good.names
        assert not good.task.done()
        assert (await world.raw("GET", "/readyz")).status == 200

    run(work)


def test_a_watch_of_a_version_that_cannot_be_given_ends_alone() -> None:
    """A definition whose versions only a webhook converts, and which nobody serves."""
    hook = {"conversionReviewVersions": ["v1"], "clientConfig": {"service": {"namespace": "x", "name": "y"}}}
    described = definition("convs")
    described["spec"]["conversion"] = {"strategy": "Webhook", "webhook": hook}
    version = described["spec"]["versions"][0]
    described["spec"]["versions"].append({**version, "name": "v2", "storage": False})

    async def work(world: World) -> None:
        await world.raw("POST", CRDS, described)
        await world.clock.sleep(1)
        path = "/apis/a.example/{}/namespaces/default/convs"
        other = await Watching(world, f"{path.format('v2')}?watch=1").start()
        stored = await Watching(world, f"{path.format('v1')}?watch=1").start()
        await world.raw(
            "POST", path.format("v1"), {"apiVersion": "a.example/v1", "kind": "Convs", "metadata": {"name": "c"}}
        )
        await world.clock.sleep(120)
        assert "c" in stored.names
        assert not stored.task.done()
        assert other.task.done()
        assert [event["type"] for event in other.events] == ["ERROR"]
        for elsewhere in ("/api/v1/namespaces", path.format("v1"), "/readyz"):
            assert (await world.raw("GET", elsewhere)).status == 200

    run(work)


def test_a_store_watch_that_ends_is_resumed_where_it_was_and_open_watches_go_on() -> None:
    async def work(world: World) -> None:
        open_one = await Watching(world, f"{MAPS}?watch=1").start()
        for round in range(3):
            for watch in list(world.backend.hub.watches):
                watch.end()
            await world.backend.put(Put(b"/registry/configmaps/default/unseen%d" % round, MAP % (b"unseen%d" % round)))
            assert (await world.raw("POST", MAPS, config_map(f"m{round}"))).status == 201
            assert (await world.raw("GET", f"{MAPS}/m{round}")).status == 200
            await world.clock.sleep(3)
        assert not open_one.task.done()
        assert open_one.names == [name for round in range(3) for name in (f"unseen{round}", f"m{round}")]
        assert (await world.raw("GET", "/readyz")).status == 200

    run(work)


def test_while_a_cache_cannot_be_filled_the_store_is_read_and_lists_are_told_to_come_back() -> None:
    async def work(world: World) -> None:
        await world.raw("POST", MAPS, config_map("a"))
        maps = cacher(world, "", "configmaps")
        original, maps._read_all = maps._read_all, asyncio.Event().wait
        maps.lost()
        began = world.clock.monotonic()
        assert (await world.raw("GET", f"{MAPS}/a")).status == 200
        page = await world.json("GET", f"{MAPS}?limit=1")
        assert page["items"][0]["metadata"]["name"] == "a"
        assert "continue" in page["metadata"] or len(page["items"]) == 1
        refused = await world.raw("GET", MAPS)
        assert refused.status == 429
        assert isinstance(refused.body, bytes)
        assert b"storage is (re)initializing" in refused.body
        assert world.clock.monotonic() - began < 10
        assert (await world.raw("GET", "/api/v1/namespaces/default")).status == 200
        maps._read_all = original
        maps.lost()
        assert (await world.raw("GET", MAPS)).status == 200

    run(work)


def test_a_member_that_cannot_be_written_to_is_cut_off_alone() -> None:
    async def work(world: World) -> None:
        bad = await Watching(world, f"{MAPS}?watch=1").start()
        good = await Watching(world, f"{MAPS}?watch=1").start()
        groups = cacher(world, "", "configmaps").watchers._groups.values()
        members = [member for group in groups for member in group.members.values()]
        Fault(members[0], "write", always=True)
        await world.raw("POST", MAPS, config_map("x"))
        await world.clock.sleep(1)
        assert bad.task.done()
        assert "x" in good.names

    run(work)


@pytest.mark.parametrize(
    ("place", "check"), [("the feed delivers", "watch-cache"), ("definitions are looked at", "background-tasks")]
)
def test_health_says_that_a_shared_task_does_not_work(place: str, check: str) -> None:
    async def work(world: World) -> None:
        await touch_everything(world, "0")
        Fault(*PLACES[place](world), always=True)
        await world.raw("POST", CRDS, definition("more"))
        await world.clock.sleep(5)
        await world.raw("POST", MAPS, config_map("x"))
        answer = await world.raw("GET", "/readyz")
        assert answer.status == 500
        assert isinstance(answer.body, bytes)
        assert f"[-]{check} failed" in answer.body.decode()
        await world.clock.sleep(100)
        await world.raw("POST", MAPS, config_map("y"))
        assert (await world.raw("GET", "/livez")).status == 500  # it does not mend itself
        assert (await world.raw("GET", "/api/v1/namespaces/default")).status == 200  # past the cache, if need be

    run(work)
