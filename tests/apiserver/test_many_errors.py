"""A request of which everything is wrong is refused as soon as enough of it has been found."""

from __future__ import annotations

import time

import orjson
import pytest

from tests.apiserver.apiworld import World, run
from tiphys.api import fielderrors
from tiphys.api.fielderrors import MOST_ERRORS, enough
from tiphys.api.object import Object

COUNT = 100_000
NODE: Object = {"metadata": {"name": "n"}, "spec": {"taints": [{}] * COUNT}}
PODS: Object = {
    "metadata": {"name": "p"},
    "spec": {"containers": [{"name": "c", "image": "i", "volumeMounts": [{}] * COUNT}]},
}


@pytest.mark.parametrize(("path", "obj"), [("/api/v1/nodes", NODE), ("/api/v1/namespaces/a/pods", PODS)])
def test_a_validation_ends_when_enough_is_wrong(path: str, obj: Object) -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        start = time.process_time()
        answer = await world.raw("POST", path, orjson.dumps(obj))
        assert time.process_time() - start < 4  # of which most is reading; it took a minute, and gigabytes
        assert answer.status == 422
        told = orjson.loads(answer.body if isinstance(answer.body, bytes) else b"")
        assert 100 < len(told["details"]["causes"]) <= 1000
        assert (await world.raw("POST", "/api/v1/nodes", {"metadata": {"name": "good"}})).status == 201

    run(work)


def test_enough_is_counted_for_each_validation() -> None:
    def make(count: int) -> list[fielderrors.FieldError]:
        return [fielderrors.required(f"f{number}") for number in range(count)]

    def nested() -> list[fielderrors.FieldError]:
        return make(MOST_ERRORS // 2) + enough(lambda: make(MOST_ERRORS * 2))[:5]

    assert len(enough(lambda: make(MOST_ERRORS - 1))) == MOST_ERRORS - 1
    assert len(enough(lambda: make(MOST_ERRORS * 3))) == MOST_ERRORS
    assert len(enough(nested)) == MOST_ERRORS // 2 + 5
    assert len(make(MOST_ERRORS * 2)) == MOST_ERRORS * 2
