"""A store that a kube-apiserver v1.36 has filled, served by ours.

``data/go_store.json.gz`` holds the values of its keys (protobuf for its own kinds, JSON of v1beta1 for definitions),
and what it answered to a GET of one object of every kind.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path

import orjson
import pytest

from tests.apiserver.apiworld import World, config_map
from tiphys.api.object import Object
from tiphys.runtime.clock import VirtualClock, VirtualTimeLoop
from tiphys.store.backend import Put, Range

BROKEN: list[tuple[str, bytes, str]] = [
    ("not JSON", b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"na', "unexpected end of data"),
    ("not JSON behind our own head", b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{]', ""),
    ("empty", b"", ""),
    ("a list", b"[1]", "it is not an object"),
    ("another kind", b'{"kind":"Secret","apiVersion":"v1","metadata":{"name":"bad"}}', "it is a Secret"),
    ("cut protobuf", b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12\xff", "unexpected EOF"),
    ("unknown protobuf kind", b'k8s\0\n\x0b\n\x02v9\x12\x05Thing\x12\0\x1a\0"\0', "no kind"),
    ("encrypted", b"k8s:enc:aescbc:v1:key1:\x01\x02", "it is encrypted"),
    ("a wrong type", b'{"kind":"ConfigMap","apiVersion":"v0","metadata":{"name":"bad"},"data":[1]}', ""),
    ("no name", b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"uid":"x"}}', "it has no name"),
    ("no name behind our own head", b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{}}', "it has no name"),
    ("labels", b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"bad","labels":["a"]}}', "its labels are"),
    ("metadata of a wrong type", b'{"kind":"ConfigMap","apiVersion":"v1","metadata":[]}', "not an object"),
    ("binary", bytes(range(256)), ""),
]


@cache
def recorded() -> tuple[dict[str, bytes], dict[str, Object]]:
    text = gzip.decompress((Path(__file__).parent / "data/go_store.json.gz").read_bytes())
    found = orjson.loads(text)
    return {key: base64.b64decode(value) for key, value in found["values"].items()}, found["answers"]


def run_on(values: dict[str, bytes], work: Callable[[World], Awaitable[None]]) -> None:
    """A test on a server that finds ``values`` in its store when it starts."""
    loop = VirtualTimeLoop()

    async def main() -> None:
        world = World(VirtualClock(loop))
        for key, value in values.items():
            await world.backend.put(Put(key.encode(), value))
        async with asyncio.timeout(600), world.running():
            await work(world)

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_every_kind_reads_as_the_go_server_answered() -> None:
    values, answers = recorded()
    different: list[str] = []

    async def work(world: World) -> None:
        for path, expected in answers.items():
            shown = await world.json("GET", path)
            for obj in (expected, shown):
                obj.get("metadata", {}).pop("resourceVersion", None)
            if shown != expected:
                different.append(f"{path}:\n  {orjson.dumps(shown).decode()}\n  {orjson.dumps(expected).decode()}")

    run_on(values, work)
    assert not different, "\n".join(different)


def test_what_was_read_can_be_changed_and_is_then_kept_as_ours() -> None:
    values, answers = recorded()

    async def work(world: World) -> None:
        for path in answers:
            answer = await world.raw(
                "PATCH", path, {"metadata": {"labels": {"seen": "yes"}}}, content_type="application/merge-patch+json"
            )
            assert answer.status == 200, (path, answer.body)
        key = b"/registry/configmaps/a/x"
        stored = (await world.backend.range(Range(key))).kvs[0].value
        assert orjson.loads(stored)["metadata"]["labels"] == {"seen": "yes"}

    run_on(values, work)


def test_node_ports_that_a_go_server_gave_stay_taken() -> None:
    values, _ = recorded()
    holder = {"metadata": {"name": "n"}, "spec": {"type": "NodePort", "ports": [{"port": 1, "nodePort": 30007}]}}

    async def work(world: World) -> None:
        services = "/api/v1/namespaces/a/services"
        assert (await world.raw("POST", services, holder)).status == 201
        holder["metadata"]["name"] = "second"
        assert (await world.raw("POST", services, holder)).status == 422

    run_on(values, work)


@pytest.mark.parametrize(("value", "why"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
@pytest.mark.parametrize("when", ["at the start", "while it runs"])
def test_what_cannot_be_read_is_one_objects_error(value: bytes, why: str, when: str) -> None:
    key = "/registry/configmaps/default/bad"

    async def work(world: World) -> None:
        maps = "/api/v1/namespaces/default/configmaps"
        if when == "while it runs":
            await world.raw("POST", maps, config_map("bad"))
            await world.backend.put(Put(key.encode(), value))
        await world.raw("POST", maps, config_map("good"))
        bad = await world.json("GET", f"{maps}/bad")
        assert (bad["code"], bad["reason"]) == (500, "InternalError")
        assert f'object "{key}" in the store cannot be read' in bad["message"]
        assert why in bad["message"]
        assert (await world.raw("GET", f"{maps}/good")).status == 200
        listed = await world.raw("GET", maps)
        assert isinstance(listed.body, bytes)
        assert [item["metadata"]["name"] for item in orjson.loads(listed.body)["items"]] == ["good"]
        assert key in listed.headers["Warning"]
        assert (await world.raw("GET", "/readyz", user=None)).status == 200
        await world.backend.put(Put(key.encode(), b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"bad"}}'))
        assert (await world.raw("GET", f"{maps}/bad")).status == 200

    run_on({key: value}, work)
