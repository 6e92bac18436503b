"""What takes long is done beside the loop: others are served meanwhile, and what is short never leaves it."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType
from typing import Any

import orjson
import pytest

from tests.apiserver.apiworld import World, config_map, pod, run
from tiphys.api.object import Object
from tiphys.apiserver import aside
from tiphys.apiserver.storage import objects
from tiphys.cel.patience import Patience, current

MAPS = "/api/v1/namespaces/a/configmaps"
MANY = 2000
MEDIA = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


class Held(ThreadPoolExecutor):
    """Threads that begin when they are let."""

    def __init__(self) -> None:
        super().__init__(2)
        self.let, self.asked = threading.Event(), 0

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.asked += 1

        def wait() -> Any:
            assert self.let.wait(60)
            return work(*args, **kwargs)

        return super().submit(wait)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    with Held() as executor:
        monkeypatch.setattr(aside, "_threads", lambda: executor)
        yield executor
        executor.let.set()


def owned(name: str) -> Object:
    owners = [{"apiVersion": "v1", "kind": "Pod", "name": f"p{i}", "uid": f"u{i}"} for i in range(MANY)]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": owners}}


def request(verb: str) -> tuple[str, str, Any, str]:
    obj = owned("c")
    if verb == "create":
        return "POST", MAPS, owned("new"), "application/json"
    if verb == "update":
        return "PUT", f"{MAPS}/c", obj, "application/json"
    body: Any = obj if verb == "apply" else {"metadata": {"ownerReferences": obj["metadata"]["ownerReferences"]}}
    if verb == "json":
        body = [{"op": "add", "path": "/metadata/ownerReferences", "value": obj["metadata"]["ownerReferences"]}]
    if verb == "copies":
        body = [{"op": "copy", "from": "/data", "path": "/metadata/annotations"}]
    return "PATCH", f"{MAPS}/c?fieldManager=m", body, MEDIA.get(verb, MEDIA["json"])


@pytest.mark.parametrize("verb", ["create", "update", "json", "merge", "strategic", "apply", "copies"])
def test_others_are_served_while_a_big_request_is_worked_on(verb: str, held: Held) -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await world.json("POST", MAPS, config_map("c"))
        assert held.asked == 0
        method, path, body, media = request(verb)
        big = asyncio.ensure_future(world.raw(method, path, body, content_type=media))
        for _ in range(100):
            assert (await world.raw("GET", "/readyz")).status == 200
            assert (await world.raw("GET", f"{MAPS}/c")).status == 200
        assert held.asked == 1
        assert not big.done()
        held.let.set()
        assert (await big).status in (200, 201)

    run(work)


def test_a_big_update_is_read_beside_the_loop_if_it_may_be_what_is_there(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keys may have come in another order; that it is another object is seen without reading it."""
    held.let.set()
    read_in: list[bool] = []
    same = objects._same

    def seen(one: bytes, other: bytes) -> bool:
        read_in.append(threading.current_thread() is threading.main_thread())
        return same(one, other)

    monkeypatch.setattr(objects, "_same", seen)

    def big(*letters: str) -> Object:
        return {**config_map("c"), "data": {letter: letter * aside.BIG for letter in letters}}

    async def work(world: World) -> None:
        await world.namespace("a")
        versions = [(await world.json("POST", MAPS, big("x", "y")))["metadata"]["resourceVersion"]]
        for letters in ("yx", "yz"):
            put = await world.json("PUT", f"{MAPS}/c", big(*letters))
            versions.append(put["metadata"]["resourceVersion"])
        assert versions[0] == versions[1] != versions[2]
        assert read_in == [False]

    run(work)


def test_where_two_texts_differ_is_found_by_comparing_halves() -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for _ in range(2000):
        one = chance.randbytes(chance.randrange(1, 3000))
        other = bytearray(one)
        for _ in range(chance.randrange(4)):
            other[chance.randrange(len(other))] ^= 1
        first, end = objects._differing(one, bytes(other))
        assert 0 <= first <= end <= len(one), f"seed {seed}"
        assert (one[:first], one[end:]) == (other[:first], other[end:]), f"seed {seed}"


def definition(rules: list[str]) -> Object:
    items = {"type": "array", "maxItems": 900, "items": {"type": "string", "maxLength": 9}}
    spec = {
        "type": "object",
        "properties": {"l": items},
        "x-kubernetes-validations": [{"rule": rule} for rule in rules],
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
    }
    return {
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"kind": "Thing", "plural": "things"},
            "versions": [version],
        },
    }


def thing(name: str, count: int) -> Object:
    spec = {"l": [f"i{i}" for i in range(count)]}
    return {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec}


def test_rules_of_custom_resources(held: Held) -> None:
    """The first object has the rules compiled; then it depends on what they cost."""
    things = "/apis/example.com/v1/namespaces/a/things"
    rules = ["self.l.all(a, self.l.exists(b, a == b))", "self.l.size() < 150"]

    async def create(world: World, count: int) -> Any:
        held.let.clear()
        before = held.asked
        created = asyncio.ensure_future(world.raw("POST", things, thing(f"t{count}", count)))
        for _ in range(20):
            assert (await world.raw("GET", "/readyz")).status == 200
        held.let.set()
        response = await created
        return response.status, held.asked - before

    async def work(world: World) -> None:
        held.let.set()
        await world.namespace("a")
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        assert (await world.raw("POST", path, definition(rules))).status == 201
        async with asyncio.timeout(60):
            while (await world.raw("GET", things)).status != 200:
                await world.settle()
        assert await create(world, 1) == (201, 1)
        assert await create(world, 2) == (201, 0)
        assert await create(world, 100) == (201, 1)
        assert await create(world, 200) == (422, 1)

    run(work)


def test_what_was_lengthy_twice_is_not_tried_on_the_loop_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "_UNTRIED", 3)
    loop, where = threading.get_ident(), list[str]()

    def work() -> None:
        if threading.get_ident() != loop:
            where[-1] += "thread"
            return
        where[-1] += "loop "
        current().spend(100)  # type: ignore[union-attr]

    async def play() -> None:
        experience = aside.Experience()
        for patience in (10, 1000, 10, 10, 10, 10, 10, 1000, 10):
            where.append("")
            await aside.patiently(Patience(patience), work, experience)

    asyncio.run(play())
    both, at_once = "loop thread", "thread"
    assert where == [both, "loop ", both, both, at_once, at_once, at_once, "loop ", both]


def test_expressions_of_policies(held: Held) -> None:
    group = "/apis/admissionregistration.k8s.io/v1"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    expression = "object.data.all(a, object.data.exists(b, a == b))"
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": expression}, {"expression": "object.data.size() < 150"}],
    }

    async def create(world: World, count: int) -> Any:
        obj = {"metadata": {"name": f"c{count}"}, "data": {f"k{i}": "" for i in range(count)}}
        held.let.clear()
        before = held.asked
        created = asyncio.ensure_future(world.raw("POST", MAPS, obj))
        for _ in range(20):
            assert (await world.raw("GET", "/readyz")).status == 200
        held.let.set()
        response = await created
        return response.status, held.asked - before

    async def work(world: World) -> None:
        held.let.set()
        await world.namespace("a")
        policy = {"metadata": {"name": "p"}, "spec": spec}
        assert (await world.raw("POST", f"{group}/validatingadmissionpolicies", policy)).status == 201
        binding = {"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}}
        assert (await world.raw("POST", f"{group}/validatingadmissionpolicybindings", binding)).status == 201
        await world.settle()
        assert await create(world, 3) == (201, 0)
        assert await create(world, 100) == (201, 1)
        assert await create(world, 200) == (422, 1)

    run(work)


def test_small_requests_stay_on_the_loop(held: Held) -> None:
    held.let.set()

    async def work(world: World) -> None:
        await world.namespace("a")
        await world.json("POST", MAPS, config_map("c"))
        await world.json("POST", "/api/v1/namespaces/a/pods", pod("p"))
        await world.json("PUT", f"{MAPS}/c", config_map("c", x="y"))
        for verb, body in (
            ("json", [{"op": "add", "path": "/data/b", "value": "1"}]),
            ("merge", {"data": {"b": "2"}}),
            ("strategic", {"data": {"b": "3"}}),
            ("apply", config_map("c", z="y")),
        ):
            force = "&force=true" if verb == "apply" else ""
            sent = await world.raw("PATCH", f"{MAPS}/c?fieldManager=m{force}", body, content_type=MEDIA[verb])
            assert sent.status == 200
        assert held.asked == 0

    run(work)


GROWN = {
    "pods": {"spec": {"containers": [{} for _ in range(4 * MANY)]}},
    "configmaps": {"data": {f"k{i}": "v" for i in range(8 * MANY)}},
    "services": {"spec": {"ports": [{"port": 1 + i} for i in range(4 * MANY)]}},
    "resourcequotas": {"spec": {"hard": {f"count/k{i}": "1" for i in range(4 * MANY)}}},
}


@pytest.mark.parametrize("plural", list(GROWN))
def test_the_loop_has_few_steps_for_big_objects(plural: str) -> None:
    """A step of the loop takes some 0.2 µs to 1 µs: this many are far below 250 ms."""
    count = 0

    def step(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    async def work(world: World) -> None:
        await world.namespace("a")
        path, body = f"/api/v1/namespaces/a/{plural}", orjson.dumps({"metadata": {"name": "big"}, **GROWN[plural]})
        sys.setprofile(step)
        try:
            response = await world.raw("POST", path, body)
        finally:
            sys.setprofile(None)
        assert response.status in (201, 422)

    run(work)
    assert count < 150_000
