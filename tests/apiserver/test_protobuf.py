"""Answers in protobuf, of every verb, compared with the JSON of the same object."""

from __future__ import annotations

import asyncio
import struct

import orjson
import pytest

from tests.apiserver.apiworld import World, run
from tiphys.api import errors, protobuf
from tiphys.api.object import Object
from tiphys.api.protobuf.decoding import _read_message
from tiphys.apiserver.endpoints.negotiation import Form
from tiphys.apiserver.endpoints.watchevents import failure_event
from tiphys.wire.http import Response, Sink

PB = "application/vnd.kubernetes.protobuf"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def body_of(response: Response) -> bytes:
    assert response.headers["Content-Type"] == PB
    assert isinstance(response.body, bytes)
    return response.body


async def as_json(world: World, path: str) -> Object:
    obj: Object = await world.json("GET", path)
    return obj


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_every_verb_answers_with_the_bytes_of_the_object() -> None:
    async def work(world: World) -> None:
        for method, path, sent, headers in (
            ("POST", CONFIG_MAPS, config_map("a", k="v"), {}),
            ("GET", f"{CONFIG_MAPS}/a", None, {}),
            ("PUT", f"{CONFIG_MAPS}/a", config_map("a", k="w"), {}),
            ("PATCH", f"{CONFIG_MAPS}/a", {"data": {"x": "y"}}, {"content_type": "application/merge-patch+json"}),
        ):
            response = await world.raw(method, path, sent, accept=PB, **headers)
            assert body_of(response) == protobuf.encode(await as_json(world, f"{CONFIG_MAPS}/a")), method
        response = await world.raw("DELETE", f"{CONFIG_MAPS}/a", accept=PB)
        status = protobuf.decode(body_of(response))
        assert (status["kind"], status["status"], status["details"]["name"]) == ("Status", "Success", "a")

    run(work)


def test_a_body_in_protobuf_is_created_and_shown_in_protobuf() -> None:
    async def work(world: World) -> None:
        response = await world.raw(
            "POST", CONFIG_MAPS, protobuf.encode(config_map("a", k="v")), content_type=PB, accept=PB
        )
        assert response.status == 201
        assert protobuf.decode(body_of(response))["data"] == {"k": "v"}

    run(work)


@pytest.mark.parametrize("limit", ["", "?limit=2"])
def test_a_list_holds_the_items_messages(limit: str) -> None:
    async def work(world: World) -> None:
        for name in "abc":
            await world.json("POST", CONFIG_MAPS, config_map(name, k=name))
        for _ in range(2):  # the second is joined from what is kept
            response = await world.raw("GET", CONFIG_MAPS + limit, accept=PB)
            plain = await as_json(world, CONFIG_MAPS + limit)
            assert [item["metadata"]["name"] for item in plain["items"]] == list("abc")[: 2 if limit else 3]
            token = protobuf.decode(body_of(response))["metadata"].get("continue", "")
            plain["metadata"].pop("continue", None)
            if token:
                plain["metadata"]["continue"] = token
            assert body_of(response) == protobuf.encode(plain)

    run(work)


def test_another_version_than_the_stored_one() -> None:
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}},
    }

    async def work(world: World) -> None:
        path = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers"
        await world.json("POST", path.format("v2"), scaler)
        for version in ("v1", "v2"):
            response = await world.raw("GET", path.format(version) + "/h", accept=PB)
            assert body_of(response) == protobuf.encode(await as_json(world, path.format(version) + "/h"))

    run(work)


def test_failures_and_reviews_and_discovery() -> None:
    async def work(world: World) -> None:
        missing = await world.raw("GET", f"{CONFIG_MAPS}/none", accept=f"{PB},application/json")
        assert missing.status == 404
        assert protobuf.decode(body_of(missing))["reason"] == "NotFound"
        review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = await world.raw("POST", path, review, accept=PB)
        assert protobuf.decode(body_of(answer))["status"]["allowed"] is True
        for path in ("/api", "/apis", "/apis/apps", "/apis/apps/v1"):
            listed = await world.raw("GET", path, accept=PB)
            assert body_of(listed) == protobuf.encode(await as_json(world, path))

    run(work)


def test_aggregated_discovery() -> None:
    accept = ";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

    async def work(world: World) -> None:
        response = await world.raw("GET", "/apis", accept=PB + accept)
        assert response.headers["Content-Type"] == PB + accept
        plain = await world.raw("GET", "/apis", accept="application/json" + accept)
        assert isinstance(plain.body, bytes)
        assert response.body == protobuf.encode(orjson.loads(plain.body))

    run(work)


def test_metadata_only_and_no_tables() -> None:
    async def work(world: World) -> None:
        await world.json("POST", CONFIG_MAPS, config_map("a", k="v"))
        view = ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        listed = protobuf.decode(body_of(await world.raw("GET", CONFIG_MAPS, accept=PB + view)))
        assert listed["kind"] == "PartialObjectMetadataList"
        assert [item["metadata"]["name"] for item in listed["items"]] == ["a"]
        table = await world.raw("GET", CONFIG_MAPS, accept=f"{PB};as=Table;g=meta.k8s.io;v=v1")
        assert table.status == 406

    run(work)


class Reader(Sink):
    """Collects what a watch writes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def buffered(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        await asyncio.sleep(0)

    async def wait_closed(self) -> None:
        await self.left

    def events(self) -> list[tuple[str, Object]]:
        found, at = [], 0
        while at < len(self.data):
            (size,) = struct.unpack_from(">I", self.data, at)
            message = bytes(self.data[at + 4 : at + 4 + size])
            assert len(message) == size
            kind_size = message[1]
            kind = message[2 : 2 + kind_size].decode()
            body = message[message.index(protobuf.MAGIC, 2 + kind_size) :]
            found.append((kind, protobuf.decode(body)))
            at += 4 + size
        return found


def test_a_watch_is_a_sequence_of_framed_messages() -> None:
    async def work(world: World) -> None:
        await world.json("POST", CONFIG_MAPS, config_map("a"))
        path = (
            f"{CONFIG_MAPS}?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        )
        response = await world.raw("GET", path, accept=f"{PB};stream=watch")
        assert response.status == 200, response.body
        assert response.headers["Content-Type"] == f"{PB};stream=watch"
        reader = Reader()
        assert callable(response.body)
        task = asyncio.ensure_future(response.body(reader))
        await world.settle()
        await world.json("PATCH", f"{CONFIG_MAPS}/a", {"data": {"k": "v"}}, content_type="application/merge-patch+json")
        await world.json("DELETE", f"{CONFIG_MAPS}/a")
        await world.settle()
        reader.left.set_result(None)
        await task
        events = reader.events()
        assert [type for type, _ in events[:4]] == ["ADDED", "BOOKMARK", "MODIFIED", "DELETED"]
        assert events[1][1]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert events[2][1]["data"] == {"k": "v"}

    run(work)


def test_the_end_of_a_watch_that_is_too_old_is_a_status() -> None:
    framed = failure_event(Form(media=PB), errors.expired("too old resource version: 1 (7)"))
    body = framed[framed.index(protobuf.MAGIC) :]
    assert framed[4 : 4 + 7] == b"\n\x05ERROR"
    assert protobuf.decode(body)["reason"] == "Expired"


CRONTABS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "crontabs.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "crontabs", "kind": "CronTab"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def test_custom_resources_have_metadata_only() -> None:
    async def work(world: World) -> None:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        created = await world.raw("POST", path, CRONTABS, accept=PB)
        assert created.status == 201
        assert protobuf.decode(body_of(created))["spec"]["group"] == "example.com"
        await world.clock.sleep(2)
        crontabs = "/apis/example.com/v1/namespaces/default/crontabs"
        refused = await world.raw("GET", crontabs, accept=PB)
        assert refused.status == 406
        either = await world.raw("GET", crontabs, accept=f"{PB},application/json")
        assert either.headers["Content-Type"] == "application/json"
        view = f"{PB};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        assert (
            protobuf.decode(body_of(await world.raw("GET", crontabs, accept=view)))["kind"]
            == "PartialObjectMetadataList"
        )

    run(work)


def test_unknown_fields_of_newer_clients_are_passed_over() -> None:
    assert _read_message("io.k8s.api.core.v1.ConfigMap", b"\xfa\x01\x02hi", 0) == {}
