"""Built-in kinds kept as protobuf: the bytes of upstream, read back and watched like any other."""

from __future__ import annotations

from tests.apiserver.apiworld import World, run
from tiphys.api import protobuf
from tiphys.apiserver.config import Config
from tiphys.client.resources import CONFIG_MAPS
from tiphys.store.backend import Range, prefix_end

PATH = "/api/v1/namespaces/default/configmaps"


async def stored(world: World, prefix: bytes) -> dict[str, bytes]:
    answer = await world.backend.range(Range(prefix, prefix_end(prefix)))
    return {kv.key.decode().rpartition("/")[2]: kv.value for kv in answer.kvs}


def test_values_are_protobuf_and_everything_else_is_as_before() -> None:
    async def work(world: World) -> None:
        made = await world.json("POST", PATH, {"metadata": {"name": "c"}, "data": {"k": "v"}})
        value = (await stored(world, b"/registry/configmaps/default/"))["c"]
        expected = {**made, "metadata": {**made["metadata"]}}
        del expected["metadata"]["resourceVersion"]
        assert value == protobuf.encode(expected)
        assert await world.json("GET", f"{PATH}/c") == made
        changed = await world.json("PATCH", f"{PATH}/c", {"data": {"x": "y"}},
                                   content_type="application/merge-patch+json")  # fmt: skip
        assert changed["data"] == {"k": "v", "x": "y"}
        same = await world.json("PUT", f"{PATH}/c", changed)
        assert same["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]
        start = made["metadata"]["resourceVersion"]
        async for event in world.admin.watch(CONFIG_MAPS, "default", resource_version=start):
            assert (event.type, event.object["data"]) == ("MODIFIED", {"k": "v", "x": "y"})
            break

    run(work, Config(seed=1, storage_as_protobuf=True))


def test_what_upstream_keeps_as_json_stays_json() -> None:
    async def work(world: World) -> None:
        for value in (await stored(world, b"/registry/apiregistration.k8s.io/")).values():
            assert value.startswith(b"{")
        for value in (await stored(world, b"/registry/flowschemas/")).values():
            assert value.startswith(protobuf.MAGIC)

    run(work, Config(seed=1, storage_as_protobuf=True))
