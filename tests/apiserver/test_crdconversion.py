"""Custom resources that a webhook converts: reads, writes, lists and watches in every version, and what fails alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from tests.apiserver.apiworld import World, run
from tests.apiserver.test_customresources import DEFINITIONS, MERGE, define
from tiphys.apiserver.crd.reviews import BadAnswer, make_review, read_review
from tiphys.apiserver.crd.stored import StoredCodec
from tiphys.apiserver.endpoints.convertedwatch import ConvertedChanges
from tiphys.apiserver.storage.changes import EntryChange
from tiphys.apiserver.storage.converted import StoredStore
from tiphys.apiserver.storage.selection import Selection
from tiphys.apiserver.webhooks.client import CallFailed
from tiphys.client.errors import ApiError
from tiphys.client.resources import ResourcePath

Object = dict[str, Any]

V1 = "/apis/example.com/v1/namespaces/default/hosts"
V2 = "/apis/example.com/v2/namespaces/default/hosts"
HOSTS_V1 = ResourcePath("example.com", "v1", "hosts", namespaced=True)
HOSTS_V2 = ResourcePath("example.com", "v2", "hosts", namespaced=True)
ANY: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
NAME, SPLIT = {"type": "string"}, {"host": {"type": "string"}, "port": {"type": "string"}}


def schema(**fields: Object) -> Object:
    spec = {"type": "object", "properties": fields}
    return {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": ANY}}}


def definition(storage: str = "v1", **conversion: Any) -> Object:
    def version(name: str, **more: Any) -> Object:
        return {"name": name, "served": True, "storage": name == storage, "subresources": {"status": {}}, **more}

    webhook = {"clientConfig": {"url": "https://127.0.0.1:1/convert"}, "conversionReviewVersions": ["v1"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "hosts.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "hosts", "kind": "Host"},
            "conversion": {"strategy": "Webhook", "webhook": webhook | conversion},
            "versions": [
                version("v1", schema=schema(hostPort=NAME), selectableFields=[{"jsonPath": ".spec.hostPort"}]),
                version("v2", schema=schema(**SPLIT), selectableFields=[{"jsonPath": ".spec.port"}]),
            ],
        },
    }


def convert(obj: Object, desired: str) -> Object:
    """``hostPort`` of v1 is ``host`` and ``port`` of v2."""
    obj = json.loads(json.dumps(obj))
    spec = obj.get("spec") or {}
    if desired.endswith("v2") and "hostPort" in spec:
        spec["host"], _, spec["port"] = spec.pop("hostPort").partition(":")
    elif desired.endswith("v1") and "host" in spec:
        spec["hostPort"] = f"{spec.pop('host')}:{spec.pop('port')}"
    return {**obj, "apiVersion": desired, "unknown": 1}


class Webhook:
    """Stands for the conversion webhook. ``asked`` are the requests; ``broken`` are names that it refuses."""

    def __init__(self, world: World, change: Callable[[Object, str], Object] = convert) -> None:
        self.asked: list[Object] = []
        self.broken: set[str] = set()
        self.waiting = asyncio.Event()
        self.waiting.set()
        self._change = change
        world.server.webhooks.call = self.call  # type: ignore[method-assign]

    async def call(self, config: Object, body: Object, timeout: float) -> Object:
        request = body["request"]
        self.asked.append(json.loads(json.dumps(request)))
        await self.waiting.wait()
        if any(obj["metadata"].get("name") in self.broken for obj in request["objects"]):
            result = {"status": "Failure", "message": "cannot split"}
            return {**body, "response": {"uid": request["uid"], "result": result}}
        objects = [self._change(obj, request["desiredAPIVersion"]) for obj in request["objects"]]
        return {
            **body,
            "response": {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": objects},
        }


def host(name: str, **spec: Any) -> Object:
    version = "v1" if "hostPort" in spec else "v2"
    return {"apiVersion": f"example.com/{version}", "kind": "Host", "metadata": {"name": name}, "spec": spec}


def test_objects_are_written_and_read_in_both_versions() -> None:
    async def work(world: World) -> None:
        hook = Webhook(world)
        await define(world, definition())
        made = await world.json("POST", V2, host("a", host="h", port="80"))
        assert made["apiVersion"] == "example.com/v2", made
        assert made["spec"] == {"host": "h", "port": "80"}
        assert "unknown" not in made  # what a conversion adds is pruned, too
        stored = await world.json("GET", f"{V1}/a")
        assert stored["spec"] == {"hostPort": "h:80"}
        assert stored["metadata"] == made["metadata"]
        assert hook.asked[0]["desiredAPIVersion"] == "example.com/v1"
        assert "resourceVersion" not in hook.asked[1]["objects"][0]["metadata"]
        changed = await world.json("PATCH", f"{V2}/a", {"spec": {"port": "81"}}, content_type=MERGE)
        assert changed["spec"] == {"host": "h", "port": "81"}
        assert changed["metadata"]["generation"] == 2
        assert (await world.json("GET", f"{V1}/a"))["spec"] == {"hostPort": "h:81"}
        replaced = await world.json("PUT", f"{V2}/a", {**changed, "spec": {"host": "x", "port": "1"}})
        assert replaced["spec"] == {"host": "x", "port": "1"}
        same = await world.json("PUT", f"{V2}/a", replaced)
        assert same["metadata"]["resourceVersion"] == replaced["metadata"]["resourceVersion"]
        status = await world.json("PATCH", f"{V2}/a/status", {"status": {"n": 1}}, content_type=MERGE)
        assert status["status"] == {"n": 1}
        assert status["metadata"]["generation"] == 3
        gone = await world.json("DELETE", f"{V2}/a")
        assert gone["status"] == "Success"
        assert (await world.json("GET", f"{V1}/a"))["code"] == 404

    run(work)


def test_a_list_is_converted_in_batches_once_and_selected_by_what_is_shown() -> None:
    async def work(world: World) -> None:
        hook = Webhook(world)
        await define(world, definition())
        for number in range(120):
            await world.json("POST", V1, host(f"h{number:03}", hostPort=f"h:{number % 2}"))
        assert not hook.asked
        listed = await world.json("GET", V2)
        assert listed["apiVersion"] == "example.com/v2"
        assert len(listed["items"]) == 120
        assert {item["apiVersion"] for item in listed["items"]} == {"example.com/v2"}
        assert [len(request["objects"]) for request in hook.asked] == [100, 20]
        odd = await world.json("GET", f"{V2}?fieldSelector=spec.port%3D1&limit=50")
        assert len(odd["items"]) == 50
        assert {item["spec"]["port"] for item in odd["items"]} == {"1"}
        rest = await world.json(
            "GET", f"{V2}?fieldSelector=spec.port%3D1&limit=50&continue={odd['metadata']['continue']}"
        )
        assert [item["metadata"]["name"] for item in rest["items"]] == [f"h{n:03}" for n in range(101, 120, 2)]
        assert len(hook.asked) == 2  # every object is converted once
        table = await world.json("GET", V2, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        assert len(table["rows"]) == 120
        assert (await world.json("DELETE", f"{V2}?fieldSelector=spec.port%3D1"))["kind"] == "HostList"
        assert len((await world.json("GET", V1))["items"]) == 60

    run(work)


def test_a_watch_shows_its_version_and_one_that_cannot_be_converted_ends_alone() -> None:
    async def work(world: World) -> None:
        hook = Webhook(world)
        await define(world, definition())
        await world.json("POST", V1, host("first", hostPort="h:1"))
        events: dict[str, list[tuple[str, str, Any]]] = {"v1": [], "v2": [], "named": []}
        ended: dict[str, str] = {}

        async def follow(key: str, resource: ResourcePath, **options: Any) -> None:
            try:
                async for event in world.admin.watch(resource, namespace="default", **options):
                    spec = event.object["spec"]
                    events[key].append(
                        (event.type, event.object["metadata"]["name"], spec.get("port", spec.get("hostPort")))
                    )
            except ApiError as error:
                ended[key] = str(error)

        named = {"field_selector": "metadata.name=second"}
        tasks = [
            asyncio.ensure_future(follow("v1", HOSTS_V1)),
            asyncio.ensure_future(follow("v2", HOSTS_V2)),
            asyncio.ensure_future(follow("named", HOSTS_V2, **named)),
        ]
        await world.settle()
        await world.json("POST", V1, host("second", hostPort="h:2"))
        await world.json("PATCH", f"{V1}/second", {"spec": {"hostPort": "h:3"}}, content_type=MERGE)
        await world.settle()
        assert events["v2"] == [("ADDED", "first", "1"), ("ADDED", "second", "2"), ("MODIFIED", "second", "3")]
        assert events["named"] == events["v2"][1:]
        hook.broken.add("bad")
        await world.json("POST", V1, host("bad", hostPort="nothing"))
        await world.json("DELETE", f"{V1}/second")
        await world.settle()
        assert list(ended) == ["v2"]
        assert "conversion webhook for example.com/v1, Kind=Host failed: cannot split" in ended["v2"]
        assert events["named"][-1] == ("DELETED", "second", "3")
        assert events["v1"][-2:] == [("ADDED", "bad", "nothing"), ("DELETED", "second", "h:3")]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        failed = await world.json("GET", V2)
        assert failed["code"] == 500
        assert failed["message"].endswith("Kind=Host failed: cannot split")
        assert (await world.json("GET", f"{V2}/first"))["spec"] == {"host": "h", "port": "1"}
        hook.broken.clear()
        assert len((await world.json("GET", V2))["items"]) == 2

    run(work)


def test_a_selector_is_about_what_is_shown_so_a_change_can_bring_an_object_into_sight() -> None:
    async def work(world: World) -> None:
        Webhook(world)
        await define(world, definition())
        seen: list[tuple[str, str]] = []

        async def follow() -> None:
            async for event in world.admin.watch(HOSTS_V2, namespace="default", field_selector="spec.port=2"):
                seen.append((event.type, event.object["spec"]["port"]))  # noqa: PERF401 - read while it goes on

        task = asyncio.ensure_future(follow())
        await world.settle()
        await world.json("POST", V1, host("a", hostPort="h:1"))
        for port in ("2", "3"):
            await world.json("PATCH", f"{V1}/a", {"spec": {"hostPort": f"h:{port}"}}, content_type=MERGE)
        await world.settle()
        assert seen == [("ADDED", "2"), ("DELETED", "2")]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(work)


def test_who_gives_up_takes_the_conversion_from_nobody() -> None:
    async def work(world: World) -> None:
        hook = Webhook(world)
        await define(world, definition())
        await world.json("POST", V1, host("a", hostPort="h:1"))
        hook.waiting.clear()
        first = asyncio.ensure_future(world.json("GET", f"{V2}/a"))
        second = asyncio.ensure_future(world.json("GET", f"{V2}/a"))
        await world.settle()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        hook.waiting.set()
        assert (await second)["spec"] == {"host": "h", "port": "1"}
        assert len(hook.asked) == 1

    run(work)


def test_an_object_that_cannot_be_converted_fails_no_read_of_another() -> None:
    async def work(world: World) -> None:
        hook = Webhook(world)
        await define(world, definition())
        for name in ("bad", "good"):
            await world.json("POST", V1, host(name, hostPort="h:1"))
        hook.broken.add("bad")
        hook.waiting.clear()
        listed = asyncio.ensure_future(world.json("GET", V2))
        await world.settle()
        read = asyncio.ensure_future(world.json("GET", f"{V2}/good"))  # it waits for the batch of the list
        await world.settle()
        assert len(hook.asked) == 1
        hook.waiting.set()
        assert (await listed)["code"] == 500
        assert (await read)["spec"] == {"host": "h", "port": "1"}

    run(work)


def test_what_was_stored_in_another_version_stays_readable_and_is_written_in_the_new_one() -> None:
    async def work(world: World) -> None:
        Webhook(world)
        await define(world, definition())
        await world.json("POST", V1, host("old", hostPort="h:1"))
        found = await world.json("GET", f"{DEFINITIONS}/hosts.example.com")
        for version in found["spec"]["versions"]:
            version["storage"] = version["name"] == "v2"
        moved = await world.json("PUT", f"{DEFINITIONS}/hosts.example.com", found)
        assert moved["status"]["storedVersions"] == ["v1", "v2"]
        await world.settle()
        await world.json("POST", V1, host("new", hostPort="h:2"))
        shown = await world.json("GET", V2)
        assert [item["spec"]["port"] for item in shown["items"]] == ["2", "1"]
        before = await world.json("GET", f"{V1}/old")
        assert before["spec"] == {"hostPort": "h:1"}
        # Writing it as it is moves it to the storage version.
        after = await world.json("PUT", f"{V1}/old", before)
        assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
        raw = await world.backend.range(_all("/registry/example.com/hosts/"))
        assert [json.loads(kv.value)["apiVersion"] for kv in raw.kvs] == ["example.com/v2", "example.com/v2"]

    run(work)


def test_ownership_of_fields_follows_the_conversion() -> None:
    async def work(world: World) -> None:
        Webhook(world)
        await define(world, definition())
        apply = "application/apply-patch+yaml"
        await world.json("PATCH", f"{V2}/a?fieldManager=x", host("a", host="h", port="1"), content_type=apply)
        conflict = await world.json("PATCH", f"{V1}/a?fieldManager=y", host("a", hostPort="h:2"), content_type=apply)
        assert conflict["code"] == 409
        assert conflict["details"]["causes"][0]["field"] == ".spec.port"
        forced = f"{V1}/a?fieldManager=y&force=true"
        taken = await world.json("PATCH", forced, host("a", hostPort="h:2"), content_type=apply)
        managers = {entry["manager"]: entry for entry in taken["metadata"]["managedFields"]}
        assert "f:port" not in json.dumps(managers["x"]["fieldsV1"]), managers["x"]
        assert "f:hostPort" in managers["y"]["fieldsV1"]["f:spec"]

    run(work)


def test_a_webhook_that_cannot_be_reached_fails_only_what_needs_it() -> None:
    async def work(world: World) -> None:
        hook = Webhook(world)
        await define(world, definition())
        await world.json("POST", V1, host("a", hostPort="h:1"))

        async def refuse(config: Object, body: Object, timeout: float) -> Object:
            raise CallFailed('Post "https://127.0.0.1:1/convert": EOF')

        world.server.webhooks.call = refuse  # type: ignore[method-assign]
        failed = await world.json("GET", f"{V2}/a")
        told = 'conversion webhook for example.com/v1, Kind=Host failed: Post "https://127.0.0.1:1/convert": EOF'
        assert (failed["code"], failed["message"]) == (500, told)
        assert (await world.json("POST", V2, host("b", host="h", port="1")))["code"] == 500
        assert (await world.json("GET", f"{V1}/a"))["spec"] == {"hostPort": "h:1"}
        # A definition can be deleted although nothing converts its objects.
        await world.json("DELETE", f"{DEFINITIONS}/hosts.example.com")
        await world.clock.sleep(20)
        assert (await world.json("GET", f"{DEFINITIONS}/hosts.example.com"))["code"] == 404
        assert not hook.asked
        registry = CollectorRegistry()
        registry.register(world.server.metrics)
        text = generate_latest(registry).decode()
        failures = 'failure_type="conversion_webhook_call_failure",result="failure"} 2'
        assert f"apiserver_conversion_webhook_request_total{{{failures}" in text
        count = 'crd_name="hosts.example.com",from_version="v1",succeeded="false",to_version="v2"} 1'
        assert f"apiserver_crd_conversion_webhook_duration_seconds_count{{{count}" in text

    run(work)


def _all(prefix: str) -> Any:
    from tiphys.store.backend import Range, prefix_end

    return Range(prefix.encode(), prefix_end(prefix.encode()))


ORIGINAL: Object = {
    "apiVersion": "example.com/v1",
    "kind": "Host",
    "metadata": {"name": "a", "namespace": "n", "uid": "u", "labels": {"a": "1"}, "generation": 3},
}


def answer(*objects: Any, **response: Any) -> Object:
    review = make_review("v1", "7", "example.com/v2", [])
    body = {"uid": "7", "result": {"status": "Success"}, "convertedObjects": list(objects), **response}
    return {**review, "response": body}


def problem(reply: Object, originals: int = 1) -> tuple[str, str]:
    try:
        read_review(reply, "v1", "7", "example.com/v2", [ORIGINAL] * originals)
    except BadAnswer as error:
        return error.failure.removeprefix("conversion_webhook_").removesuffix("_failure"), str(error)
    return "", ""


def test_answers_are_checked() -> None:
    good = {**ORIGINAL, "apiVersion": "example.com/v2", "spec": {"x": 1}}

    def meta(**changes: Any) -> Object:
        return {**good, "metadata": {**ORIGINAL["metadata"], **changes}}

    assert problem(answer(good)) == ("", "")
    head = "apiextensions.k8s.io/v1, Kind="
    malformed: list[tuple[Object, str]] = [
        ({**answer(good), "kind": "X"}, f"expected webhook response of {head}ConversionReview, got {head}X"),
        ({**answer(good), "response": None}, "no response provided"),
        (answer(good, uid="8"), 'expected response.uid="7", got "8"'),
        (answer(good, result={}), "response.result.status was '', not 'Success'"),
        (answer(good, result={"message": "no"}), "no"),
    ]
    for reply, text in malformed:
        assert problem(reply) == ("malformed_response", f"failed: {text}")
    assert problem(answer()) == ("partial_response", "returned 0 objects, expected 1")
    gv, wrong = "invalid groupVersion (expected example.com/v2, received example.com/v1)", "in converted object"
    invalid: list[tuple[Object, int, str]] = [
        (answer(ORIGINAL), 1, f"object at index 0: {gv}"),
        (
            answer(good, {**good, "kind": "X"}),
            2,
            "converted object at index 1: invalid kind (expected Host, received X)",
        ),
        (answer(meta(uid="v")), 1, "object: must have the same UID: u != v"),
        (answer(meta(name="b")), 1, "object: must have the same name: a != b"),
        (answer(meta(labels={"a": 1})), 1, f"metadata: metadata.labels[a] must be a string, but is int64 {wrong}"),
        (answer(meta(annotations=[])), 1, f"metadata: invalid metadata.annotations of type []interface {{}} {wrong}"),
    ]
    for reply, count, text in invalid:
        assert problem(reply, count) == ("invalid_converted_object", f"returned invalid {text}")
    failure, text = problem(answer(meta(labels={"a b": ""})))
    assert failure == "invalid_converted_object"
    assert text.startswith('returned invalid metadata: metadata.labels: Invalid value: "a b": ')
    kept = read_review(
        answer(meta(generation=9, labels=None, annotations={"b": "2"})), "v1", "7", "example.com/v2", [ORIGINAL]
    )
    wanted = {"name": "a", "namespace": "n", "uid": "u", "generation": 3, "annotations": {"b": "2"}}
    assert kept[0]["metadata"] == wanted
    assert kept[0]["spec"] == {"x": 1}


def test_a_watch_that_falls_behind_its_conversions_is_cut_off() -> None:
    class Slow:
        cut = 0
        buffered = 0

        def write(self, data: bytes) -> None: ...

        def fail(self, error: Exception) -> None: ...

        def cut_off(self) -> None:
            self.cut += 1

    async def work(world: World) -> None:
        Webhook(world)
        await define(world, definition())
        await world.json("POST", V1, host("a", hostPort="h:1"))
        await world.settle()
        store = world.server.registries.get("example.com", "hosts").store
        assert isinstance(store, StoredStore)
        assert isinstance(store.codec, StoredCodec)
        watch, shown = Slow(), store.in_version("v2", "v1", store.codec.of("v2"))
        changes = ConvertedChanges(shown, Selection(store.prefix), lambda *_: b"", watch)
        (entry,) = store.cacher.under(store.prefix)
        for _ in range(2000):
            assert changes.take("ADDED", entry, EntryChange(1, entry, None)) == b""
        assert watch.cut == 0
        changes.take("ADDED", entry, EntryChange(1, entry, None))
        assert watch.cut == 1
        assert not changes.is_idle

    run(work)
