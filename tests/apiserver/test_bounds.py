"""What a request costs grows no faster than the request: every list and map of every kind, by every verb that writes.

A field is filled with n, 2n and 4n items, and the steps of the server are counted: calls of functions, Python's or C's.
Twice the items may cost twice the steps, not four times. What C does within one call is not seen here; for that,
`tests/source/test_searches.py` looks for searches through lists.

The suite tries each field by one verb; ``TIPHYS_BOUNDS=all pytest tests/apiserver/test_bounds.py`` tries all by all, in
some minutes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from types import FrameType
from typing import Any

import orjson
import pytest

from tests.apiserver.apiworld import World, run
from tests.apiserver.baseobjects import base, collection
from tests.apiserver.growing import Place, places
from tests.apiserver.test_any_object import furnish
from tiphys.apiserver import aside

EVERYTHING = os.environ.get("TIPHYS_BOUNDS") == "all"
SIZE = 24
MOST_GROWTH = 2.2
"""Of the added steps, if the added items double: 2 is linear, 4 quadratic; sorting and growing tables lie between."""
SLACK = 1000
FORMS = ("distinct", "equal")
VERBS = ("create", "update", "merge", "strategic", "json", "apply")
_MEDIA = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


class Inline(Executor):
    """Does work where it is asked for: steps are counted in one thread."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it is the caller's
            done.set_exception(error)
        return done


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = Inline()
    monkeypatch.setattr(aside, "_threads", lambda: executor)


class Steps:
    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Steps:
        sys.setprofile(self._step)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _step(self, frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_call"):
            self.count += 1


def request(place: Place, verb: str, size: int, form: str) -> tuple[str, str, bytes, str]:
    """Method, path, body and content type."""
    obj = place.grown(size, form)
    path = collection(place.resource, place.version)
    at = f"{path}/{obj['metadata']['name']}?dryRun=All"
    if verb == "create":
        return "POST", f"{path}?dryRun=All", orjson.dumps(obj), "application/json"
    if verb == "update":
        return "PUT", at, orjson.dumps(obj), "application/json"
    body: Any = {place.path[0]: obj[place.path[0]]}
    if verb == "json":
        body = [{"op": "add", "path": f"/{name}", "value": value} for name, value in body.items()]
        if place.path[0] == "metadata":
            body = [
                {"op": "add", "path": f"/metadata/{name}", "value": value} for name, value in obj["metadata"].items()
            ]
    if verb == "apply":
        body, at = obj, f"{at}&fieldManager=m&force=true"
    return "PATCH", at, orjson.dumps(body), _MEDIA[verb]


async def steps(world: World, place: Place, verb: str, size: int, form: str) -> tuple[int, int]:
    """How many steps a request takes, and the status of its answer."""
    method, path, body, media = request(place, verb, size, form)
    with Steps() as counted:
        response = await world.raw(method, path, body, content_type=media)
    return counted.count, response.status


async def judge(world: World, place: Place, verb: str, form: str) -> str:
    """What is wrong with the growth of this place; empty if nothing is.

    A shared task may have had its turn in between: what looks wrong has to look so at greater sizes, too.
    """
    await steps(world, place, verb, SIZE, form)  # whatever is made once
    for scale in (1, 3):
        sizes = [scale * factor * SIZE for factor in (1, 2, 4)]
        counts = [await steps(world, place, verb, size, form) for size in sizes]
        (first, _), (second, _), (third, status) = counts
        assert status != 404, (place, verb, "does not exist")
        if third - second <= MOST_GROWTH * max(second - first, 0) + SLACK:
            return ""
    return f"{place} ({form}) by {verb}: {first}, {second}, {third} steps, answer {status}"


def trials() -> Iterator[tuple[Place, str, str]]:
    for number, place in enumerate(places()):
        if EVERYTHING:
            yield from ((place, verb, form) for verb in VERBS for form in FORMS)
        else:
            yield place, VERBS[number % len(VERBS)], FORMS[number // len(VERBS) % len(FORMS)]


def test_steps_grow_no_faster_than_lists_and_maps() -> None:
    wrong: list[str] = []

    async def work(world: World) -> None:
        await furnish(world)
        made = set()
        for place, verb, form in trials():
            path = collection(place.resource, place.version)
            if path not in made:
                made.add(path)
                await world.json("POST", path, base(place.resource, place.version))
            if problem := await judge(world, place, verb, form):
                wrong.append(problem)

    run(work)
    assert not wrong, "\n".join(wrong)


def test_the_fields_are_all_there() -> None:
    """Of the lists and maps of all kinds, not a chosen few."""
    tried = list(places())
    assert len(tried) > 300
    assert len({place.resource.kind for place in tried}) > 40
