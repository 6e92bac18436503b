"""The walk over rights, sent to another API server instead of to one in memory: what upstream's answers look like.

The server knows a token of an administrator, who acts as the users of the walk by impersonation. Nobody else may write
to it meanwhile. What it holds of a kind is read by its lists, before and after each request.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from tiphys.api.object import Object
from tiphys.client.rest import Client
from tiphys.wire.client import SocketTransport, parse_url
from tiphys.wire.http import Headers, Request
from tiphys.wire.tls.contexts import client_context

URL, TOKEN = "TIPHYS_OTHER_SERVER", "TIPHYS_OTHER_TOKEN"


def other_server() -> str:
    """Its URL; empty if none is given."""
    return os.environ.get(URL, "")


class Answer(NamedTuple):
    status: int
    body: bytes


@dataclass(frozen=True)
class OtherWorld:
    """Takes the requests that ``World`` takes."""

    transport: SocketTransport
    token: str
    admin: Client

    async def raw(self, method: str, path: str, body: Any = None, user: Any = None, content_type: str = "") -> Answer:
        path, _, query = path.partition("?")
        sent = Headers({"authorization": f"Bearer {self.token}", "accept": "application/json"})
        if user is not None:
            sent["impersonate-user"] = user[0]
            sent["impersonate-group"] = "\n".join(user[1])
        data = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        if data:
            sent["content-type"] = content_type or "application/json"
        response = await self.transport.send(Request(method, path, query, sent, data), 90)
        try:
            watched = response.status == 200 and ("watch=1" in query or "/watch/" in path)
            return Answer(response.status, b"" if watched else await response.read(1 << 24))
        finally:
            await response.close()

    async def json(self, method: str, path: str, body: Any = None) -> Object:
        found: Object = orjson.loads((await self.raw(method, path, body)).body)
        return found

    async def stored(self, path: str) -> Mapping[bytes, bytes]:
        """The objects of a collection by name, each as JSON."""
        listed = await self.json("GET", path)
        return {item["metadata"]["name"].encode(): orjson.dumps(item) for item in listed["items"]}

    async def settle(self) -> None:
        await asyncio.sleep(0.5)


@asynccontextmanager
async def other_world() -> AsyncIterator[OtherWorld]:
    address, token = parse_url(other_server()), os.environ[TOKEN]
    transport = SocketTransport(address.host, address.port, tls=client_context(verify=False))
    admin = Client(transport, user_agent="walk", token=lambda: token)
    try:
        yield OtherWorld(transport, token, admin)
    finally:
        await transport.close()
