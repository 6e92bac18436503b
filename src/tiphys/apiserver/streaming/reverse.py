"""The proxy subresources of nodes, pods and services: any HTTP request is carried on, and its answer back.

Source: apimachinery's util/proxy (UpgradeAwareHandler, Transport) and Go's httputil.ReverseProxy.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace

from tiphys.api import errors
from tiphys.apiserver.streaming.connect import proxy_upgrade
from tiphys.apiserver.streaming.links import Rewriter, joined
from tiphys.apiserver.streaming.location import Location, forwarded_headers
from tiphys.wire.client import canonical
from tiphys.wire.http import ClientResponse, Headers, Request, Response, Transport
from tiphys.wire.upgrade import HOP_BY_HOP, is_upgrade, pass_on

_CORS = frozenset(f"access-control-allow-{what}" for what in ("credentials", "headers", "methods", "origin"))
_MAX_PAGE = 2 * 1024 * 1024
"""Bytes of a page whose links are rewritten; a larger one is passed on as it comes."""
_UNCOMPRESSED_LIMIT = 8 * 1024 * 1024


async def reverse_proxy(
    request: Request, transport: Transport, location: Location, timeout: float | None = None, *, redirects: bool = True
) -> Response:
    """Carry ``request`` on to ``location.path`` (the client's query goes with it), and the answer back, as it comes.

    ``location.path`` is ``""`` for the root of the target if the client's path does not end in a slash; such a GET
    is redirected to the path with one. Upgrades are joined byte for byte. Raises StatusError 503 if the target
    cannot be reached. Without ``redirects``, an answer that sends the client elsewhere becomes a 502.
    """
    if is_upgrade(request):
        return await proxy_upgrade(request, transport, replace(location, query=request.query))
    path = location.path
    if not path.endswith("/") and request.path.endswith("/"):
        path += "/"
    if not path and request.method in ("GET", "HEAD"):
        query = f"?{request.query}" if request.query else ""
        return Response(301, {"Location": f"{request.path}/{query}"})
    prepend = _prepend(request.path, location.path)
    onward = Request(request.method, path or "/", request.query, _headers(request, prepend, path), request.body)
    try:
        answer = await transport.send(onward, timeout)
    except (ConnectionError, TimeoutError) as error:
        message = f"error trying to reach service: {error or 'timed out'}"
        raise errors.service_unavailable(message) from error
    if not redirects and 300 <= answer.status < 400 and answer.headers.get("location"):
        await answer.close()
        return Response(502, {}, b"the backend attempted to redirect this request, which is not permitted")
    return await _answer(request, answer, Rewriter(prepend, location.host, request.headers.get("host", "")))


def _prepend(request_path: str, target_path: str) -> str:
    """The part of the client's path that leads to the proxy: what is before the target's own path."""
    suffix = target_path
    if request_path.endswith("/") and not suffix.endswith("/"):
        suffix += "/"
    return request_path.removesuffix(suffix)


def _headers(request: Request, prepend: str, path: str) -> Headers:
    headers = forwarded_headers(request)
    named = {part.strip().lower() for part in headers.get("connection", "").split(",")}
    for name in HOP_BY_HOP | named | {"content-length", "expect"}:
        headers.pop(name, None)
    headers["x-forwarded-uri"] = joined(prepend, path)
    return headers


async def _answer(request: Request, answer: ClientResponse, rewriter: Rewriter) -> Response:
    target = answer.headers.get("location", "")
    if target:
        try:
            rewritten = rewriter.url(target)
        except ValueError as error:
            await answer.close()
            raise errors.internal(f"error trying to parse Location header: {error}") from error
        response = pass_on(request, answer, _CORS)
        response.headers["Location"] = rewritten
        return response
    media = answer.headers.get("content-type", "").partition(";")[0].strip()
    encoding = answer.headers.get("content-encoding", "")
    if media != "text/html" or request.method == "HEAD" or encoding not in ("", "gzip", "deflate"):
        return pass_on(request, answer, _CORS)
    return await _page(request, answer, encoding, rewriter)


async def _page(request: Request, answer: ClientResponse, encoding: str, rewriter: Rewriter) -> Response:
    """An HTML page, with its links rewritten; as it came if it is too large for that."""
    read: list[bytes] = []
    size = 0
    try:
        async for piece in answer.chunks():
            read.append(piece)
            size += len(piece)
            if size > _MAX_PAGE:
                return pass_on(request, answer, _CORS, read)
        page = _decode(b"".join(read), encoding)
    except (ConnectionError, zlib.error) as error:
        raise errors.service_unavailable(f"error trying to reach service: {error}") from error
    if page is None:
        return pass_on(request, answer, _CORS, read)
    rewritten = rewriter.page(page.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    dropped = HOP_BY_HOP | _CORS | {"content-length"}
    headers = {canonical(name): value for name, value in answer.headers.items() if name not in dropped}
    return Response(answer.status, headers, _encode(rewritten, encoding))


def _decode(body: bytes, encoding: str) -> bytes | None:
    """None: it becomes too large. Raises ``zlib.error``."""
    if not encoding:
        return body
    decompressor = zlib.decompressobj(31 if encoding == "gzip" else -15)
    page = decompressor.decompress(body, _UNCOMPRESSED_LIMIT)
    return None if decompressor.unconsumed_tail else page


def _encode(page: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.compress(page)
    if encoding == "deflate":
        compressor = zlib.compressobj(9, wbits=-15)
        return compressor.compress(page) + compressor.flush()
    return page
