"""Lists and watches: pages of one state, selectors, events in order, and several servers on one store."""

from __future__ import annotations

import asyncio
import base64

import orjson
import pytest

from tests.apiserver.apiworld import ADMIN, World, collect, config_map, run
from tiphys.apiserver.config import Config
from tiphys.apiserver.server import APIServer
from tiphys.apiserver.storage import continuation
from tiphys.apiserver.storage.compactor import Compactor
from tiphys.apiserver.storage.feed import Feed
from tiphys.client import resources as R
from tiphys.client.errors import ApiError, Gone
from tiphys.client.rest import Client
from tiphys.wire.inprocess import InProcessTransport


async def fill(world: World, count: int) -> None:
    await world.namespace("a")
    for i in range(count):
        await world.admin.create(R.CONFIG_MAPS, config_map(f"x{i}", n=str(i)), namespace="a")


def names(found: dict) -> list[str]:
    return [item["metadata"]["name"] for item in found["items"]]


def test_pages_show_the_state_of_the_first_one() -> None:
    async def work(world: World) -> None:
        await fill(world, 5)
        client = world.admin
        first = await client.list(R.CONFIG_MAPS, "a", limit=2)
        assert (names(first), first["metadata"]["remainingItemCount"]) == (["x0", "x1"], 3)
        await client.delete(R.CONFIG_MAPS, "x3", "a")
        await client.create(R.CONFIG_MAPS, config_map("x2b"), namespace="a")
        second = await client.list(R.CONFIG_MAPS, "a", limit=2, continue_=first["metadata"]["continue"])
        assert names(second) == ["x2", "x3"]
        third = await client.list(R.CONFIG_MAPS, "a", limit=2, continue_=second["metadata"]["continue"])
        assert names(third) == ["x4"]
        assert "continue" not in third["metadata"]
        versions = {page["metadata"]["resourceVersion"] for page in (first, second, third)}
        assert len(versions) == 1

    run(work)


def test_a_page_of_a_compacted_state_is_gone_with_a_way_on() -> None:
    async def work(world: World) -> None:
        await fill(world, 4)
        first = await world.admin.list(R.CONFIG_MAPS, "a", limit=2)
        await world.admin.create(R.CONFIG_MAPS, config_map("y"), namespace="a")
        await world.settle()
        await world.backend.compact(await world.backend.current_revision())
        with pytest.raises(Gone) as caught:
            await world.admin.list(R.CONFIG_MAPS, "a", limit=2, continue_=first["metadata"]["continue"])
        token = caught.value.status["metadata"]["continue"]
        rest = await world.admin.list(R.CONFIG_MAPS, "a", continue_=token)
        assert names(rest) == ["x2", "x3", "y"]

    run(work)


def test_the_store_keeps_the_history_of_one_interval() -> None:
    async def work(world: World) -> None:
        await fill(world, 4)
        first = await world.admin.list(R.CONFIG_MAPS, "a", limit=2)
        token = first["metadata"]["continue"]
        await world.clock.sleep(310)
        await world.admin.list(R.CONFIG_MAPS, "a", limit=2, continue_=token)
        await world.clock.sleep(300)
        with pytest.raises(Gone) as caught:  # although the cache could still tell
            await world.admin.list(R.CONFIG_MAPS, "a", limit=2, continue_=token)
        rest = await world.admin.list(R.CONFIG_MAPS, "a", continue_=caught.value.status["metadata"]["continue"])
        assert names(rest) == ["x2", "x3"]
        assert rest["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]

    run(work)


def test_servers_on_one_store_take_turns_in_compacting_it() -> None:
    async def work(world: World) -> None:
        feeds = [Feed(world.backend, world.clock) for _ in range(2)]
        one, other = (Compactor(feed, world.clock, 300) for feed in feeds)
        revision = await world.backend.current_revision()
        for compactor in (one, other):
            await compactor.compact()
        assert feeds[0].oldest == 0
        await one.compact()
        assert feeds[0].oldest == revision + 1
        await other.compact()  # learns that the first was there
        assert feeds[1].oldest == revision + 1
        await other.compact()
        assert feeds[1].oldest > revision + 1

    run(work)


def test_continue_tokens_do_not_lead_out_of_their_resource() -> None:
    prefix = "/registry/configmaps/"
    token = continuation.encode(f"{prefix}a/x", prefix, 7)
    assert continuation.decode(token, prefix) == (f"{prefix}a/x\0", 7)
    for start in ("../secrets/a", "/..", ""):
        raw = orjson.dumps({"v": "meta.k8s.io/v1", "rv": 7, "start": start})
        with pytest.raises(Exception, match="continue key is not valid"):
            continuation.decode(base64.urlsafe_b64encode(raw).decode(), prefix)


def test_selectors() -> None:
    async def work(world: World) -> None:
        await fill(world, 3)
        client = world.admin
        assert names(await client.list(R.CONFIG_MAPS, "a", label_selector="n in (0,2)")) == ["x0", "x2"]
        assert names(await client.list(R.CONFIG_MAPS, field_selector="metadata.name!=x1,metadata.namespace=a")) == [
            "x0",
            "x2",
        ]
        assert names(await client.list(R.NAMESPACES, field_selector="status.phase=Terminating")) == []

    run(work)


def test_exact_and_future_versions() -> None:
    async def work(world: World) -> None:
        await fill(world, 1)
        before = (await world.admin.list(R.CONFIG_MAPS, "a"))["metadata"]["resourceVersion"]
        await world.admin.create(R.CONFIG_MAPS, config_map("y"), namespace="a")
        await world.settle()
        exact = {"resourceVersionMatch": "Exact"}
        old = await world.admin.list(R.CONFIG_MAPS, "a", resource_version=before, params=exact)
        assert (names(old), old["metadata"]["resourceVersion"]) == (["x0"], before)
        with pytest.raises(ApiError, match="Too large resource version"):
            await world.admin.list(R.CONFIG_MAPS, "a", resource_version="999999")

    run(work)


def test_a_watch_shows_changes_in_order_and_what_stops_matching_as_deleted() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        client = world.admin
        start = (await client.list(R.CONFIG_MAPS, "a"))["metadata"]["resourceVersion"]
        watch = client.watch(R.CONFIG_MAPS, "a", resource_version=start, label_selector="n", bookmarks=False)
        events = asyncio.ensure_future(collect(watch, 4))
        await client.create(R.CONFIG_MAPS, config_map("other"), namespace="a")
        await client.create(R.CONFIG_MAPS, config_map("x", n="1"), namespace="a")
        await client.patch(R.CONFIG_MAPS, "x", {"data": {"b": "2"}}, "a")
        await client.patch(R.CONFIG_MAPS, "x", {"metadata": {"labels": {"n": None}}}, "a")
        await client.patch(R.CONFIG_MAPS, "x", {"metadata": {"labels": {"n": "2"}}}, "a")
        assert await events == [("ADDED", "x"), ("MODIFIED", "x"), ("DELETED", "x"), ("ADDED", "x")]

    run(work)


def test_a_watch_from_the_past_catches_up() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        start = (await world.admin.list(R.CONFIG_MAPS, "a"))["metadata"]["resourceVersion"]
        await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        await world.admin.delete(R.CONFIG_MAPS, "x", "a")
        watch = world.admin.watch(R.CONFIG_MAPS, "a", resource_version=start)
        assert await collect(watch, 2) == [("ADDED", "x"), ("DELETED", "x")]

    run(work)


def test_a_watch_may_start_at_the_first_object_of_a_kind() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        kind = R.NETWORK_POLICIES  # which nobody has asked for before
        first = await world.admin.create(kind, {"metadata": {"name": "x"}, "spec": {"podSelector": {}}}, namespace="a")
        await world.admin.create(kind, {"metadata": {"name": "y"}, "spec": {"podSelector": {}}}, namespace="a")
        watch = world.admin.watch(kind, "a", resource_version=first["metadata"]["resourceVersion"])
        assert await collect(watch, 1) == [("ADDED", "y")]

    run(work)


def test_a_watch_from_too_far_back_is_gone() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        with pytest.raises(Gone, match="too old resource version: 1"):
            await collect(world.admin.watch(R.CONFIG_MAPS, "a", resource_version="1"), 1)

    run(work)


def test_a_streamed_list_ends_with_a_bookmark() -> None:
    async def work(world: World) -> None:
        await fill(world, 2)
        watch = world.admin.watch(R.CONFIG_MAPS, "a", initial_events=True)
        found = [event async for event in watch_until_bookmark(watch)]
        assert [(e.type, e.object["metadata"].get("name")) for e in found[:-1]] == [("ADDED", "x0"), ("ADDED", "x1")]
        assert found[-1].object["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}

    run(work)


async def watch_until_bookmark(watch):
    async for event in watch:
        yield event
        if event.type == "BOOKMARK":
            return


def test_a_watch_ends_after_its_time_and_with_the_server() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        client, clock = world.admin, world.clock
        before = clock.monotonic()
        assert await collect(client.watch(R.CONFIG_MAPS, "a", timeout=5, bookmarks=False), 1, timeout=60) == []
        assert clock.monotonic() - before == pytest.approx(5, abs=0.1)
        events = asyncio.ensure_future(collect(client.watch(R.CONFIG_MAPS, "a", bookmarks=False), 1, timeout=60))
        await asyncio.sleep(1)
        await world.server.stop()
        assert await events == []

    run(work)


def test_bookmarks_come_by_themselves() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        watch = world.admin.watch(R.CONFIG_MAPS, "a")
        assert await collect(watch, 1, timeout=200) == [("BOOKMARK", "")]

    run(work)


def test_a_selector_of_names_spans_namespaces() -> None:
    async def work(world: World) -> None:
        for namespace in ("a", "b"):
            await world.namespace(namespace)
            for name in ("x", "y"):
                await world.admin.create(R.CONFIG_MAPS, config_map(name), namespace=namespace)
        selector = "metadata.name=x"
        listed = await world.admin.list(R.CONFIG_MAPS, field_selector=selector)
        assert [(i["metadata"]["namespace"], i["metadata"]["name"]) for i in listed["items"]] == [
            ("a", "x"),
            ("b", "x"),
        ]
        watch = world.admin.watch(R.CONFIG_MAPS, field_selector=selector, bookmarks=False)
        assert await collect(watch, 2) == [("ADDED", "x"), ("ADDED", "x")]

    run(work)


def test_two_servers_on_one_store_agree() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        second = APIServer(Config(advertise_address="192.0.2.2"), world.backend, world.clock)
        await second.start()
        other = Client(InProcessTransport(second.handler, ADMIN), user_agent="other")
        watch = other.watch(R.CONFIG_MAPS, "a", bookmarks=False)
        events = asyncio.ensure_future(collect(watch, 3))
        await asyncio.sleep(0.1)
        await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        found = await other.get(R.CONFIG_MAPS, "x", "a")
        await other.update(R.CONFIG_MAPS, {**found, "data": {"a": "2"}})
        assert (await world.admin.get(R.CONFIG_MAPS, "x", "a"))["data"] == {"a": "2"}
        await world.admin.delete(R.CONFIG_MAPS, "x", "a")
        assert await events == [("ADDED", "x"), ("MODIFIED", "x"), ("DELETED", "x")]
        endpoints = await other.get(R.ENDPOINTS, "kubernetes", "default")
        assert [a["ip"] for a in endpoints["subsets"][0]["addresses"]] == ["192.0.2.1", "192.0.2.2"]
        await second.stop()
        endpoints = await world.admin.get(R.ENDPOINTS, "kubernetes", "default")
        assert [a["ip"] for a in endpoints["subsets"][0]["addresses"]] == ["192.0.2.1"]

    run(work)


def test_a_server_that_is_killed_leaves_the_endpoints_with_its_lease() -> None:
    async def work(world: World) -> None:
        second = APIServer(Config(advertise_address="192.0.2.2"), world.backend, world.clock)
        await second.start()
        await second._runner.close()  # as when the process is killed: it says goodbye to nobody
        await world.clock.sleep(5)
        assert await addresses(world) == (["192.0.2.1", "192.0.2.2"],) * 2
        await world.clock.sleep(25)
        assert await addresses(world) == (["192.0.2.1"],) * 2
        before = await world.admin.get(R.ENDPOINTS, "kubernetes", "default")
        await world.clock.sleep(60)
        assert await world.admin.get(R.ENDPOINTS, "kubernetes", "default") == before  # nothing is written twice

    async def addresses(world: World) -> tuple[list[str], list[str]]:
        endpoints = await world.admin.get(R.ENDPOINTS, "kubernetes", "default")
        slices = await world.json("GET", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")
        return [a["ip"] for a in endpoints["subsets"][0]["addresses"]], [e["addresses"][0] for e in slices["endpoints"]]

    run(work)


def test_tables_and_metadata_only() -> None:
    async def work(world: World) -> None:
        await fill(world, 1)
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
        table = await world.json("GET", "/api/v1/namespaces/a/configmaps", accept=accept)
        assert (table["kind"], [c["name"] for c in table["columnDefinitions"]]) == ("Table", ["Name", "Data", "Age"])
        assert table["rows"][0]["cells"][:2] == ["x0", 1]
        accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
        partial = await world.json("GET", "/api/v1/namespaces/a/configmaps/x0", accept=accept)
        assert set(partial) == {"kind", "apiVersion", "metadata"}
        response = await world.raw("GET", "/api/v1/namespaces/a/configmaps/x0", accept="application/yaml")
        assert response.headers["Content-Type"] == "application/yaml"
        assert b"name: x0\n" in response.body
        review = {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        refused = await world.raw("POST", path, review, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        assert refused.status == 406
        assert b"only the following media types are accepted" in refused.body

    run(work)


def test_a_row_is_printed_again_when_an_age_in_it_or_its_object_has_changed() -> None:
    """However often it is asked for meanwhile: what is kept of a table is right at every moment."""

    async def work(world: World) -> None:
        await fill(world, 3)
        path, accept = "/api/v1/namespaces/a/configmaps", "application/json;as=Table;v=v1;g=meta.k8s.io"

        async def cells(more: str = "") -> list[list[object]]:
            return [row["cells"] for row in (await world.json("GET", path + more, accept=accept))["rows"]]

        for passed, ages in (
            (0, "0s"),
            (0.5, "0s"),
            (1.6, "2s"),
            (300, "5m2s"),
            (900, "20m"),
            (30, "20m"),
            (60, "21m"),
        ):
            await world.clock.sleep(passed)
            assert await cells() == [["x0", 1, ages], ["x1", 1, ages], ["x2", 1, ages]]
        await world.admin.patch(R.CONFIG_MAPS, "x1", {"data": {"m": "2"}}, "a")
        await world.admin.delete(R.CONFIG_MAPS, "x0", "a")
        assert await cells() == [["x1", 2, "21m"], ["x2", 1, "21m"]]
        await world.admin.create(R.CONFIG_MAPS, config_map("x0"), namespace="a")
        assert (await cells("?limit=1"))[0][2] == "0s"
        rows = (await world.json("GET", f"{path}?includeObject=Object", accept=accept))["rows"]
        assert rows[1]["object"]["data"] == {"a": "1", "m": "2"}

    run(work)
