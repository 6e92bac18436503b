"""Requests as each verb makes them, and what answers become."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from tests.client.scripted import Answer, Script, failure, lines, run, text, thing
from tiphys.client import errors, rest
from tiphys.client.resources import CONFIG_MAPS, ResourcePath
from tiphys.client.rest import Client
from tiphys.runtime.clock import VirtualClock
from tiphys.wire.http import BodyTooLarge

DEPLOYMENTS = ResourcePath("apps", "v1", "deployments")
OBJ = {"metadata": {"namespace": "n", "name": "a"}}
CM = "/api/v1/namespaces/n/configmaps"
DP = "/apis/apps/v1/namespaces/n/deployments"

Verb = Callable[[Client], Awaitable[Any]]

VERBS: dict[str, tuple[Verb, str, Any, str]] = {
    "get": (lambda c: c.get(CONFIG_MAPS, "a b", "n"), f"GET {CM}/a%20b?", None, ""),
    "get status": (lambda c: c.get(DEPLOYMENTS, "a", "n", subresource="status"), f"GET {DP}/a/status?", None, ""),
    "list": (
        lambda c: c.list(CONFIG_MAPS, "n", label_selector="a=b", limit=5, continue_="t", resource_version="0"),
        f"GET {CM}?labelSelector=a%3Db&limit=5&continue=t&resourceVersion=0",
        None,
        "",
    ),
    "create": (lambda c: c.create(CONFIG_MAPS, OBJ), f"POST {CM}?", OBJ, "application/json"),
    "create a binding": (
        lambda c: c.create(CONFIG_MAPS, {}, namespace="n", name="p", subresource="binding"),
        f"POST {CM}/p/binding?",
        {},
        "application/json",
    ),
    "update": (lambda c: c.update(CONFIG_MAPS, OBJ), f"PUT {CM}/a?", OBJ, "application/json"),
    "update status": (lambda c: c.update_status(DEPLOYMENTS, OBJ), f"PUT {DP}/a/status?", OBJ, "application/json"),
    "patch": (
        lambda c: c.patch(CONFIG_MAPS, "a", {"data": None}, "n"),
        f"PATCH {CM}/a?",
        {"data": None},
        "application/merge-patch+json",
    ),
    "apply": (
        lambda c: c.apply(CONFIG_MAPS, OBJ, "me", force=True),
        f"PATCH {CM}/a?fieldManager=me&force=true",
        OBJ,
        "application/apply-patch+yaml",
    ),
    "delete": (
        lambda c: c.delete(CONFIG_MAPS, "a", "n", uid="u", resource_version="7", propagation="Orphan", grace=0),
        f"DELETE {CM}/a?",
        {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "preconditions": {"uid": "u", "resourceVersion": "7"},
            "propagationPolicy": "Orphan",
            "gracePeriodSeconds": 0,
        },
        "application/json",
    ),
    "delete without options": (
        lambda c: c.delete(CONFIG_MAPS, "a", "n"),
        f"DELETE {CM}/a?",
        {"kind": "DeleteOptions", "apiVersion": "v1"},
        "application/json",
    ),
    "delete a collection": (
        lambda c: c.delete_collection(CONFIG_MAPS, "n", field_selector="metadata.name=a"),
        f"DELETE {CM}?fieldSelector=metadata.name%3Da",
        None,
        "",
    ),
}


@pytest.mark.parametrize(("verb", "line", "body", "content_type"), VERBS.values(), ids=VERBS)
def test_requests(verb: Verb, line: str, body: Any, content_type: str) -> None:
    async def work(clock: VirtualClock) -> None:
        script = Script(text({"ok": True}))
        assert await verb(Client(script, user_agent="me", token=lambda: "t")) == {"ok": True}
        request = script.requests[0]
        assert f"{request.method} {request.path}?{request.query}" == line
        assert (orjson.loads(request.body) if request.body else None) == body
        assert request.headers.get("content-type", "") == content_type
        assert (request.headers["user-agent"], request.headers["authorization"]) == ("me", "Bearer t")

    run(work)


def test_who_wants_metadata_says_so_for_objects_and_lists() -> None:
    async def work(clock: VirtualClock) -> None:
        script = Script(text({}), text({}), text({}))
        client = Client(script, user_agent="a").metadata_only()
        await client.get(CONFIG_MAPS, "a", "n")
        await client.list(CONFIG_MAPS)
        await client.acting_as("b", lambda: "other").get(CONFIG_MAPS, "a", "n")
        accepted = [request.headers["accept"].partition(",")[0] for request in script.requests]
        form = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
        assert accepted == [form.format(""), form.format("List"), "application/json"]
        assert script.requests[2].headers["authorization"] == "Bearer other"
        await client.close()
        assert script.closed

    run(work)


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (400, "BadRequest", errors.BadRequest),
        (401, "", errors.Unauthorized),
        (403, "Forbidden", errors.Forbidden),
        (404, "NotFound", errors.NotFound),
        (405, "", errors.MethodNotAllowed),
        (409, "AlreadyExists", errors.AlreadyExists),
        (409, "Conflict", errors.Conflict),
        (410, "Expired", errors.Gone),
        (500, "Expired", errors.Gone),
        (422, "Invalid", errors.Invalid),
        (429, "TooManyRequests", errors.TooManyRequests),
        (500, "ServerTimeout", errors.ServerTimeout),
        (504, "Timeout", errors.ServerTimeout),
        (500, "InternalError", errors.ApiError),
    ],
)
def test_failures_by_code_and_reason(code: int, reason: str, expected: type[errors.ApiError]) -> None:
    async def work(clock: VirtualClock) -> None:
        status = failure(code, reason, "why") | {"details": {"retryAfterSeconds": 2}}
        with pytest.raises(errors.ApiError) as caught:
            await Client(Script(Answer(orjson.dumps(status), status=code))).get(CONFIG_MAPS, "a", "n")
        assert type(caught.value) is expected
        assert str(caught.value) == f"{code} {reason}: why"
        assert caught.value.retry_after == 2

    run(work)


@pytest.mark.parametrize("body", [b"<html>bad gateway", b"[1]", b'{"kind":"Other"}', b"\xff"])
def test_a_page_that_is_no_status_is_the_message(body: bytes) -> None:
    error = errors.from_answer(502, body)
    assert error.code == 502
    assert error.message == body.decode("utf-8", "replace")
    assert error.retry_after is None


def test_events_of_a_watch_wherever_the_pieces_are_cut() -> None:
    whole = b"".join(lines([("ADDED", thing("ä", 1)), ("BOOKMARK", thing("", 2))])) + b"\n"

    async def work(clock: VirtualClock) -> None:
        for size in range(1, len(whole) + 1):
            answer = Answer(*(whole[at : at + size] for at in range(0, len(whole), size)))
            events = [event async for event in Client(Script(answer)).watch(CONFIG_MAPS, "n")]
            assert [event.type for event in events] == ["ADDED", "BOOKMARK"]
            assert answer.closed

    run(work)


def test_a_last_line_without_its_end_is_an_event_and_an_error_is_raised() -> None:
    async def work(clock: VirtualClock) -> None:
        script = Script(
            Answer(lines([("ADDED", thing("a", 1))])[0].rstrip()), Answer(*lines([("ERROR", failure(410, "Expired"))]))
        )
        client = Client(script)
        watch = client.watch(CONFIG_MAPS, resource_version="3", bookmarks=False, initial_events=True, timeout=9.9)
        assert [event.object["metadata"]["name"] async for event in watch] == ["a"]
        assert script.requests[0].query == (
            "watch=true&resourceVersion=3&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=9"
        )
        with pytest.raises(errors.Gone):
            [event async for event in client.watch(CONFIG_MAPS)]

    run(work)


@pytest.mark.parametrize(
    ("limit", "answer", "verb"),
    [
        ("_MOST_ANSWER", Answer(b"[", b"1, " * 100, b"1]"), VERBS["get"][0]),
        ("_MOST_ERROR", Answer(b"<p>", b"x" * 300, status=502), VERBS["create"][0]),
    ],
    ids=("of an object", "of a failure"),
)
def test_an_answer_is_not_read_beyond_its_limit(
    monkeypatch: pytest.MonkeyPatch, limit: str, answer: Answer, verb: Verb
) -> None:
    async def work(clock: VirtualClock) -> None:
        with pytest.raises(BodyTooLarge, match="larger than 200 bytes"):
            await verb(Client(Script(answer)))

    monkeypatch.setattr(rest, limit, 200)
    run(work)


def test_an_event_that_does_not_end_ends_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many events are more than one may be; the last one has no end, and is not kept for ever."""

    async def work(clock: VirtualClock) -> None:
        events = lines([("ADDED", thing(f"a{number}", number)) for number in range(20)])
        answer = Answer(*events, *[b"x" * 50] * 100, open=True)
        watch = Client(Script(answer)).watch(CONFIG_MAPS, "n")
        for number in range(20):
            assert (await anext(watch)).object["metadata"]["name"] == f"a{number}"
        with pytest.raises(ConnectionError, match="an event of a watch has over 400 bytes"):
            await anext(watch)
        assert answer.closed

    monkeypatch.setattr(rest, "_MOST_LINE", 400)
    run(work)
