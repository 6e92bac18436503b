"""Requests that repeat a head: what is known again means what the parser would say, and the rest is left to it."""

from __future__ import annotations

import asyncio
import random

import pytest

from tiphys.wire.http import Headers, Request, Response
from tiphys.wire.http1.knownhead import KnownHead, known_head
from tiphys.wire.server import Server, serve

FIELDS = b"\r\nHost: x\r\nAuthorization: Bearer t\r\nAccept: */*\r\n\r\n"
HEADERS = Headers({"host": "x", "authorization": "Bearer t", "accept": "*/*"})
KNOWN = KnownHead(FIELDS, HEADERS)


def test_a_target_is_read_with_its_query() -> None:
    assert KNOWN.repeated(b"GET /api/v1/pods?limit=5&watch=1 HTTP/1.1" + FIELDS) == (
        "/api/v1/pods",
        "limit=5&watch=1",
        HEADERS,
    )
    assert KNOWN.repeated(b"GET / HTTP/1.1" + FIELDS) == ("/", "", HEADERS)


def test_who_takes_a_field_out_of_one_request_takes_it_out_of_no_other() -> None:
    for _ in range(2):
        head = KNOWN.repeated(b"GET / HTTP/1.1" + FIELDS)
        assert head is not None
        assert head[2].pop("authorization") == "Bearer t"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: y\r\nAuthorization: Bearer t\r\nAccept: */*\r\n\r\n",
        b"GET / HTTP/1.1" + FIELDS + b"GET / HTTP/1.1" + FIELDS,
        b"GET / HTTP/1.1\r\nX: 1" + FIELDS,
        b"GET / HTTP/1.0" + FIELDS,
        b"POST / HTTP/1.1" + FIELDS,
        b"GET http://x/ HTTP/1.1" + FIELDS,
        b"GET /a b HTTP/1.1" + FIELDS,
        b"GET /\xff HTTP/1.1" + FIELDS,
        b"\r\nGET / HTTP/1.1" + FIELDS,
        FIELDS,
    ],
)
def test_what_is_not_the_same_goes_to_the_parser(data: bytes) -> None:
    assert KNOWN.repeated(data) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "x", "content-length": "0"},
        {"host": "x", "transfer-encoding": "chunked"},
        {"host": "x", "expect": "100-continue"},
        {"host": "x", "upgrade": "websocket", "connection": "upgrade"},
        {"host": "x", "long": "x" * 5000},
    ],
)
def test_what_is_more_than_a_head_is_not_kept(fields: dict[str, str]) -> None:
    data = "GET / HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
    assert known_head(data.encode(), Request("GET", "/", headers=Headers(fields))) is None


def test_fields_that_come_twice_are_not_kept() -> None:
    headers = Headers.of([("host", "x"), ("impersonate-group", "a"), ("impersonate-group", "b")])
    data = b"GET / HTTP/1.1\r\nHost: x\r\nImpersonate-Group: a\r\nImpersonate-Group: b\r\n\r\n"
    assert known_head(data, Request("GET", "/", headers=headers)) is None


LINES = (b"GET /a?b=c HTTP/1.1", b"GET /d%20e HTTP/1.1", b"HEAD /f HTTP/1.1", b"GET /g?h=[1] HTTP/1.1",
         b"POST /h HTTP/1.1")  # fmt: skip
HEADS = (b"Host: x", b"Host: x\r\nUser-Agent: a", b"Host: y\r\nX: 1\r\nX: 2", b"Host: x\r\nContent-Length: 0")


def test_a_connection_answers_as_several_do_that_have_seen_no_request_before() -> None:
    """Whatever comes in whatever order, and in whatever pieces."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    requests = [chance.choice(LINES) + b"\r\n" + chance.choice(HEADS) + b"\r\n\r\n" for _ in range(200)]

    async def show(request: Request) -> Response:
        fields = sorted((name, request.headers.each(name)) for name in request.headers)
        request.headers.clear()
        return Response(200, {}, f"{request.method} {request.path} {request.query} {fields}\n".encode())

    async def ask(server: Server, requests: list[bytes]) -> list[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        answers = []
        for request in requests:
            at = chance.choice((0, 0, len(request) // 2))
            writer.write(request[:at])
            await asyncio.sleep(0.0005 if at else 0)
            writer.write(request[at:])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            answers.append(b"" if request.startswith(b"HEAD") else await reader.readexactly(length))
        writer.close()
        return answers

    async def main() -> None:
        server = await serve(show, "127.0.0.1", 0)
        async with asyncio.timeout(60):
            together = await ask(server, requests)
            apart = [(await ask(server, [request]))[0] for request in requests]
            await server.close(1)
        assert together == apart, f"seed {seed}"

    asyncio.run(main())
