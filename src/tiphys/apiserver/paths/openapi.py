"""``/openapi/v2`` and ``/openapi/v3``: what is served, described in JSON and in protobuf, kept until that changes.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate

import orjson

from tiphys.api import errors
from tiphys.api.object import Object
from tiphys.api.scheme import Scheme
from tiphys.apiserver.aggregator.asking import NoAnswer
from tiphys.apiserver.aggregator.documents import RemoteDocuments
from tiphys.apiserver.aggregator.merging import merged
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.accept import JSON, read_accept
from tiphys.apiserver.endpoints.notfound import TEXT
from tiphys.runtime.clock import Clock
from tiphys.wire.client import canonical
from tiphys.wire.http import Response

V2_BINARY = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
V3_BINARY = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
_AT_ONCE = 20
"""Pieces of a binary document that are made before others have their turn; a piece takes about 0.1 ms."""
_GZIP_FROM = 1400
_GZIP_SLICE = 256 * 1024
_YEAR = 365 * 24 * 3600


@dataclass(eq=False, slots=True)
class Document:
    """``body`` is the JSON text, ``tag`` its hash; the other forms are made when they are first requested."""

    source: Object
    body: bytes
    tag: str
    made: float
    """Seconds since 1970."""
    custom: bool
    """Whether custom resources are in it."""
    binary: bytes | None = None


class Documents:
    """Documents by name: ``v2``, and those of version 3 by what follows ``/openapi/v3/`` in their address."""

    def __init__(self, scheme: Scheme, clock: Clock) -> None:
        self.remote: RemoteDocuments | None = None
        """Those of other servers."""
        self._scheme = scheme
        self._clock = clock
        self._documents: dict[str, Document | None] = {}
        self._binary = asyncio.Lock()

    def forget(self) -> None:
        """The scheme has changed. Documents of built-in kinds alone stay as they are."""
        for key in [key for key in self._documents if key == "v2" or self._has_custom(key)]:
            del self._documents[key]

    def _has_custom(self, key: str) -> bool:
        """Whether a document describes custom resources, or did until now."""
        document = self._documents[key]
        group = key.removeprefix("v3/apis/").partition("/")[0]
        return (
            document is None or document.custom or any(r.custom for r in self._scheme.resources() if r.group == group)
        )

    async def show_v2(self, call: Call) -> Response:
        media = _media(call, V2_BINARY)
        headers = {"Vary": "Accept-Encoding, Accept"}
        if media is None:
            return Response(406, headers)
        document = self._v2()
        body = await self._form(document, media)
        response = _cached(call, document, body, media, headers)
        if response.status == 200 and len(body) >= _GZIP_FROM and _takes_gzip(call):
            response.headers["Content-Encoding"] = "gzip"
            response.body = await _gzip(body)
        return response

    async def index_v3(self, call: Call) -> Response:
        """The index of all OpenAPI v3 documents, each with its address and hash."""
        from tiphys.api.openapi import document_names

        paths: Object = {}
        made = 0.0
        for name in document_names(self._scheme):
            if (document := self._v3(name)) is not None:
                paths[name] = {"serverRelativeURL": _address(name, document)}
                made = max(made, document.made)
            await asyncio.sleep(0)
        for name, address in self.remote.addresses().items() if self.remote is not None else ():
            paths[name] = {"serverRelativeURL": address}
        # Upstream's aggregator leaves the type of this one document to its library, which takes it for text.
        headers = {"Content-Type": TEXT, "Last-Modified": formatdate(made, usegmt=True)}
        return Response(200, headers, orjson.dumps({"paths": paths}))

    async def show_v3(self, call: Call, name: str) -> Response:
        """The document of a group and version; 304, 406, or 301 to its current hash. 404 if it is not served."""
        if (elsewhere := await self._elsewhere(call, name)) is not None:
            return elsewhere
        document = self._v3(name)
        if document is None:
            return Response(404)
        headers = {"Vary": "Accept"}
        media = _media(call, V3_BINARY)
        if media is None:
            return Response(406, headers)
        if asked := call.parameter("hash"):
            if asked != document.tag:
                location = {"Location": _address(name, document), "ETag": f'"{document.tag}"', "Content-Type": media}
                return Response(301, headers | location)
            # The address names the content, so it may be kept for ever.
            headers["Cache-Control"] = "public, immutable"
            headers["Expires"] = formatdate(self._clock.now() + _YEAR, usegmt=True)
        return _cached(call, document, await self._form(document, media), media, headers)

    async def _elsewhere(self, call: Call, name: str) -> Response | None:
        """A document of another server, as it answers; None: it is one of this server."""
        if self.remote is None:
            return None
        sent = call.request.headers
        try:
            answer = await self.remote.read(
                name, sent.get("accept") or JSON, sent.get("if-none-match", ""), call.request.query
            )
        except NoAnswer as error:
            raise errors.service_unavailable(f"error trying to reach service: {error}") from None
        if answer is None:
            return None
        return Response(answer.status, {canonical(key): value for key, value in answer.headers.items()}, answer.body)

    # -- documents and their forms

    def _v2(self) -> Document:
        document = self._documents.get("v2")
        if document is None:
            from tiphys.api.definitions import definitions
            from tiphys.api.openapi import custom_definitions, document_v2

            known = {**definitions(), **custom_definitions(self._scheme, for_v2=True)}
            source = document_v2(self._scheme, known)
            specs = self.remote.specs() if self.remote is not None else []
            source = merged(source, specs) if specs else source
            document = self._documents["v2"] = self._made(source, custom=True)
        return document

    def _v3(self, name: str) -> Document | None:
        key = f"v3/{name}"
        if key not in self._documents:
            from tiphys.api.definitions import definitions
            from tiphys.api.openapi import custom_definitions, document_names, document_v3

            if name not in document_names(self._scheme):  # not kept: a client may invent as many as it likes
                return None
            known = {**definitions(), **custom_definitions(self._scheme, for_v2=False)}
            document = document_v3(self._scheme, known, name)
            group = name.removeprefix("apis/").partition("/")[0]
            custom = any(r.custom for r in self._scheme.resources() if r.group == group)
            self._documents[key] = None if document is None else self._made(document, custom=custom)
        return self._documents[key]

    def _made(self, source: Object, *, custom: bool) -> Document:
        body = orjson.dumps(source)
        return Document(source, body, hashlib.sha512(body).hexdigest().upper(), self._clock.now(), custom)

    async def _form(self, document: Document, media: str) -> bytes:
        if media == JSON:
            return document.body
        from tiphys.api.openapi import pieces_v2, pieces_v3

        async with self._binary:
            if document.binary is None:
                pieces = pieces_v2 if media == V2_BINARY else pieces_v3
                document.binary = await _join(pieces(document.source))
            return document.binary


async def _join(pieces: Iterator[bytes]) -> bytes:
    joined = bytearray()
    for count, piece in enumerate(pieces):
        joined += piece
        if count % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return bytes(joined)


def _media(call: Call, binary: str) -> str | None:
    """The first form that the client accepts; the binary one has an older name with an at sign, too."""
    older = binary.replace(".v1.0", "@v1.0")
    for clause in read_accept(call.request.headers.get("accept") or "*/*"):
        for media in (JSON, binary, older):
            type, _, subtype = media.partition("/")
            if clause.type in (type, "*") and clause.subtype in (subtype, "*"):
                return JSON if media == JSON else binary
    return None


def _address(name: str, document: Document) -> str:
    return f"/openapi/v3/{name}?hash={document.tag}"


def _cached(call: Call, document: Document, body: bytes, media: str, headers: dict[str, str]) -> Response:
    """An answer that the client may have already, by its entity tag."""
    quoted = f'"{document.tag}"'
    common = {"ETag": quoted, "Last-Modified": formatdate(document.made, usegmt=True), **headers}
    known = [tag.strip().removeprefix("W/") for tag in call.request.headers.get("if-none-match", "").split(",")]
    if quoted in known or "*" in known:
        return Response(304, common, b"")
    return Response(200, {"Content-Type": media, **common}, body)


def _takes_gzip(call: Call) -> bool:
    for clause in call.request.headers.get("accept-encoding", "").split(","):
        coding, _, weight = clause.partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


async def _gzip(body: bytes) -> bytes:
    """Compressed in slices of some milliseconds each."""
    compressor = zlib.compressobj(1, wbits=31)
    parts: list[bytes] = []
    for at in range(0, len(body), _GZIP_SLICE):
        parts.append(compressor.compress(body[at : at + _GZIP_SLICE]))
        await asyncio.sleep(0)
    return b"".join((*parts, compressor.flush()))
