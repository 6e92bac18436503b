"""Long texts that anybody may send, without a right to anything, leave no memory taken."""

from __future__ import annotations

import gc
import logging
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from tests.apiserver.apiworld import World, pod, run

SIZE, TIMES = 100_000, 60
STRANGER = None
PODS = "/api/v1/namespaces/default/pods"


def path(text: str) -> dict[str, Any]:
    return {"path": f"/healthz/{text}"}


def name(text: str) -> dict[str, Any]:
    return {"path": f"{PODS}/{text}"}


def namespace(text: str) -> dict[str, Any]:
    return {"path": f"/api/v1/namespaces/{text}/pods"}


def resource(text: str) -> dict[str, Any]:
    return {"path": f"/apis/apps/v1/namespaces/default/{text}/x"}


def group(text: str) -> dict[str, Any]:
    return {"path": f"/apis/{text}/v1/things"}


def subresource(text: str) -> dict[str, Any]:
    return {"path": f"{PODS}/x/{text}"}


def selector(text: str) -> dict[str, Any]:
    return {"path": f"{PODS}?labelSelector={text}&fieldSelector=metadata.name%3D{text}"}


def accept(text: str) -> dict[str, Any]:
    return {"path": "/version", "accept": f"application/{text}"}


def content_type(text: str) -> dict[str, Any]:
    return {"method": "POST", "path": PODS, "body": {}, "content_type": f"application/{text}"}


def user_agent(text: str) -> dict[str, Any]:
    return {"method": "POST", "path": PODS, "body": {}, "user_agent": f"{text}/1"}


def token(text: str) -> dict[str, Any]:
    return {"path": PODS, "authorization": f"Bearer {text}"}


@pytest.mark.parametrize(
    "make", [path, name, namespace, resource, group, subresource, selector, accept, content_type, user_agent, token]
)
def test_requests_of_a_stranger(make: Callable[[str], dict[str, Any]]) -> None:
    async def send(world: World, number: int) -> int:
        request = {"method": "GET", **make(f"{number}".ljust(SIZE, "x"))}
        response = await world.raw(request.pop("method"), request.pop("path"), user=STRANGER, **request)
        return response.status

    run(lambda world: held(world, send))


def image(text: str) -> dict[str, Any]:
    return {"containers": [{"name": "c", "image": text}]}


def memory(text: str) -> dict[str, Any]:
    return {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"memory": text}}}]}


@pytest.mark.parametrize("make", [image, memory])
def test_values_of_pods_that_are_not_created(make: Callable[[str], dict[str, Any]]) -> None:
    async def send(world: World, number: int) -> int:
        spec = make(f"{number}".ljust(SIZE, "1"))
        response = await world.raw("POST", f"{PODS}?dryRun=All", {**pod("x"), "spec": spec})
        return response.status

    run(lambda world: held(world, send))


async def held(world: World, send: Callable[[World, int], Any]) -> None:
    """Hold what remains of ``TIMES`` requests to the size of a few of them: the last ones may still be in a buffer."""
    await world.namespace("default")
    for number in range(3):
        assert 200 <= await send(world, number) < 500
    gc.collect()
    logging.disable(logging.CRITICAL)  # pytest keeps the records, and with them what their exceptions refer to
    tracemalloc.start()
    try:
        for number in range(3, 3 + TIMES):
            await send(world, number)
        await world.settle()
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        logging.disable(logging.NOTSET)
    assert left < TIMES * SIZE // 3, f"{left} bytes of {TIMES * SIZE}"


def test_what_does_not_exist_has_one_row_in_the_metrics() -> None:
    async def work(world: World) -> None:
        async def rows() -> list[bytes]:
            text = (await world.raw("GET", "/metrics")).body
            assert isinstance(text, bytes)
            return [line for line in text.splitlines() if line.startswith(b"apiserver_request_total{")]

        for user in (STRANGER, ("admin", ("system:masters",))):
            before = await rows()
            for number in range(20):
                for wrong in (f"/x{number}", f"/healthz/x{number}", f"/apis/x{number}", f"/apis/apps/v1/x{number}"):
                    await world.raw("GET", wrong, user=user)
                await world.raw("POST", f"{PODS}/y/x{number}", {}, user=user)
            assert 0 < len(await rows()) - len(before) < 10
        refused = [line for line in await rows() if b'code="403"' in line]
        assert all(b'resource=""' in line for line in refused)
        await world.raw("GET", "/version", user=STRANGER)
        await world.raw("GET", PODS, user=STRANGER)
        new = [line for line in await rows() if b'"/version"' in line or (b'"pods"' in line and b'"403"' in line)]
        assert len(new) == 2

    run(work)
