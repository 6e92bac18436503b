"""``Client``: the verbs of the Kubernetes API over a ``Transport``.

Objects are dicts. Answers other than success raise ``client.errors``. Source:
https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import orjson

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.calls import Calls
from tiphys.client.resources import ResourcePath
from tiphys.client.throttle import RequestRate, TokenBucket
from tiphys.wire.http import ClientResponse, Headers, Request, Transport

MERGE = "application/merge-patch+json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"

METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1,application/json"
"""The Accept header of who wants no more than metadata; ``{}`` is ``List`` for a list."""

Params = Mapping[str, str]

NONE: Params = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """``type`` is ADDED, MODIFIED, DELETED or BOOKMARK; an ERROR event is raised instead."""

    type: str
    object: Object


_MOST_ANSWER, _MOST_LINE, _MOST_ERROR = 1 << 30, 64 << 20, 4 << 20
"""Bytes of an answer (a list of 50,000 pods has 150 MB), of one event of a watch, and of the Status of an error."""


class Client:
    """A client of one API server.

    ``token`` gives the bearer token at each request, as tokens are renewed; ``timeout`` bounds the wait for the head of
    an answer, in seconds.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        user_agent: str = "tiphys",
        token: Callable[[], str] | None = None,
        timeout: float | None = 60,
        accept: str = "application/json",
        calls: Calls | None = None,
        limits: RequestRate | None = None,
    ) -> None:
        """``calls`` counts requests, beside those of other clients of the component's; ``limits`` makes them wait."""
        self.calls = calls or Calls()
        self._limits = limits
        self._bucket: TokenBucket | None = None
        self._transport = transport
        self._accept = accept
        self._user_agent = user_agent
        self._token = token
        self._timeout = timeout

    def metadata_only(self) -> Client:
        """The same client, that is given objects without spec and status (PartialObjectMetadata)."""
        return Client(
            self._transport,
            user_agent=self._user_agent,
            token=self._token,
            timeout=self._timeout,
            accept=METADATA,
            calls=self.calls,
            limits=self._limits,
        )

    def acting_as(self, user_agent: str, token: Callable[[], str]) -> Client:
        """A client over the same connections that authenticates by ``token``, with limits of its own."""
        return Client(
            self._transport,
            user_agent=user_agent,
            token=token,
            timeout=self._timeout,
            calls=self.calls,
            limits=self._limits,
        )

    async def get(
        self, resource: ResourcePath, name: str, namespace: str = "", *, subresource: str = "", params: Params = NONE
    ) -> Object:
        return await self._json("GET", resource.path(namespace, name, subresource), params)

    async def list(
        self,
        resource: ResourcePath,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_: str = "",
        resource_version: str = "",
        params: Params = NONE,
    ) -> Object:
        """The List object: ``items``, and in ``metadata`` the resource version and the token of the next page."""
        asked = _selectors(label_selector, field_selector) | dict(params)
        if limit:
            asked["limit"] = str(limit)
        if continue_:
            asked["continue"] = continue_
        if resource_version:
            asked["resourceVersion"] = resource_version
        return await self._json("GET", resource.path(namespace), asked, accept=self._accept.format("List"))

    async def create(
        self,
        resource: ResourcePath,
        obj: Object,
        *,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
        params: Params = NONE,
    ) -> Object:
        """Create; with ``name`` and ``subresource`` a subresource, such as a pod's binding."""
        place = namespace or obj.get("metadata", {}).get("namespace", "")
        return await self._json("POST", resource.path(place, name, subresource), params, orjson.dumps(obj))

    async def update(
        self, resource: ResourcePath, obj: Object, *, subresource: str = "", params: Params = NONE
    ) -> Object:
        meta = obj["metadata"]
        path = resource.path(meta.get("namespace", ""), meta["name"], subresource)
        return await self._json("PUT", path, params, orjson.dumps(obj))

    async def update_status(self, resource: ResourcePath, obj: Object) -> Object:
        return await self.update(resource, obj, subresource="status")

    async def patch(
        self,
        resource: ResourcePath,
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        type: str = MERGE,
        subresource: str = "",
        params: Params = NONE,
    ) -> Object:
        """``patch`` is the patch as an object; ``type`` its media type."""
        path = resource.path(namespace, name, subresource)
        return await self._json("PATCH", path, params, orjson.dumps(patch), type)

    async def apply(
        self, resource: ResourcePath, obj: Object, field_manager: str, *, force: bool = False, subresource: str = ""
    ) -> Object:
        """Server-side apply; raises ``Conflict`` if another manager owns a field and ``force`` is off."""
        meta = obj["metadata"]
        asked = {"fieldManager": field_manager} | ({"force": "true"} if force else {})
        path = resource.path(meta.get("namespace", ""), meta["name"], subresource)
        return await self._json("PATCH", path, asked, orjson.dumps(obj), APPLY)

    async def delete(
        self,
        resource: ResourcePath,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "",
        grace: int | None = None,
    ) -> Object:
        """``uid`` and ``resource_version`` are preconditions; ``propagation`` is Orphan, Background or Foreground."""
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
        preconditions = {"uid": uid} if uid else {}
        if resource_version:
            preconditions["resourceVersion"] = resource_version
        if preconditions:
            options["preconditions"] = preconditions
        if propagation:
            options["propagationPolicy"] = propagation
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        return await self._json("DELETE", resource.path(namespace, name), {}, orjson.dumps(options))

    async def delete_collection(
        self, resource: ResourcePath, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> Object:
        return await self._json("DELETE", resource.path(namespace), _selectors(label_selector, field_selector))

    async def watch(
        self,
        resource: ResourcePath,
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = True,
        initial_events: bool = False,
        timeout: float | None = None,
        params: Params = NONE,
    ) -> AsyncIterator[WatchEvent]:
        """Events in order until the server ends the watch. Raises ``Gone`` if the version is too old.

        ``timeout`` in seconds asks the server to end the watch after it. ``initial_events`` streams what exists first,
        and then a bookmark with the annotation ``k8s.io/initial-events-end``.
        """
        asked = _selectors(label_selector, field_selector) | dict(params) | {"watch": "true"}
        if resource_version:
            asked["resourceVersion"] = resource_version
        if bookmarks:
            asked["allowWatchBookmarks"] = "true"
        if initial_events:
            asked |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        if timeout is not None:
            asked["timeoutSeconds"] = str(int(timeout))
        response = await self.request("GET", resource.path(namespace), params=asked)
        try:
            async for line in _lines(response):
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    raise errors.from_status(event["object"].get("code", 500), event["object"])
                yield WatchEvent(event["type"], event["object"])
        finally:
            await response.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params = NONE,
        body: bytes = b"",
        headers: Mapping[str, str] = NONE,
        timeout: float | None = None,
    ) -> ClientResponse:
        """One request by path; raises for an answer of 400 and above."""
        sent = Headers({"user-agent": self._user_agent, "accept": self._accept.format("")})
        if self._token is not None:
            sent["authorization"] = f"Bearer {self._token()}"
        if body:
            sent["content-type"] = "application/json"
        sent.update({name.lower(): value for name, value in headers.items()})
        request = Request(method, path, urlencode(params), sent, body)
        if self._limits is not None:
            await self._turn(self._limits)
        code, started = None, monotonic()
        try:
            response = await self._transport.send(request, timeout or self._timeout)
            code = response.status
        finally:
            self.calls.count(method, code, monotonic() - started)
        if response.status >= 400:
            raise errors.from_answer(response.status, await response.read(_MOST_ERROR))
        return response

    async def _turn(self, limits: RequestRate) -> None:
        """Wait until the limits let the next request go."""
        now = asyncio.get_running_loop().time()
        if self._bucket is None:
            self._bucket = TokenBucket(limits, now)
        if wait := self._bucket.take(now):
            await asyncio.sleep(wait)

    async def _json(
        self,
        method: str,
        path: str,
        params: Params,
        body: bytes = b"",
        content_type: str = "application/json",
        accept: str = "",
    ) -> Object:
        headers = {"content-type": content_type} if body else {}
        if accept:
            headers["accept"] = accept
        response = await self.request(method, path, params=params, body=body, headers=headers)
        answer: Object = orjson.loads(await response.read(_MOST_ANSWER))
        return answer

    async def close(self) -> None:
        await self._transport.close()


def _selectors(labels: str, fields: str) -> dict[str, str]:
    selectors = {"labelSelector": labels} if labels else {}
    return selectors | ({"fieldSelector": fields} if fields else {})


async def _lines(response: ClientResponse) -> AsyncIterator[bytes]:
    """The lines of a streamed body, as they get whole."""
    pieces, size = list[bytes](), 0
    async for chunk in response.chunks():
        pieces.append(chunk)
        size += len(chunk)
        if size > _MOST_LINE:
            raise ConnectionError(f"an event of a watch has over {_MOST_LINE} bytes")
        if b"\n" in chunk:
            *lines, rest = b"".join(pieces).split(b"\n")
            pieces, size = [rest] if rest else [], len(rest)
            for line in lines:
                if line:
                    yield line
    if rest := b"".join(pieces).strip():
        yield rest
