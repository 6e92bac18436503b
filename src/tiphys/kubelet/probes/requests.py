"""HTTP and TCP requests of probes and lifecycle hooks: small, short, and never following links off the host.

Source: https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.kubelet.pod.pods import ContainerSpec
from tiphys.kubelet.probes.urls import REDIRECTS, Url, UrlError, probe_url, redirected
from tiphys.wire.tls.contexts import client_context
from tiphys.wire.wording import connection_failure

MAX_BODY = 10 * 1024
_MAX_REDIRECTS = 10


class RequestFailure(Exception):
    """No answer came; the message says why in the way Go's HTTP client does."""


class PortError(Exception):
    """The probe's port cannot be found; the message is upstream's."""


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    status: int
    body: bytes
    location: str = ""

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


def resolve_port(port: int | str, container: ContainerSpec) -> int:
    """The number of a port given by number or by the name of one of the container's."""
    if isinstance(port, str) and not port.isdigit():
        for named in container.get("ports") or []:
            if named.get("name") == port:
                return int(named["containerPort"])
        raise PortError(f"couldn't find port: {port}")
    number = int(port)
    if not 0 < number < 65536:
        raise PortError(f"invalid port number: {number}")
    return number


def headers_for(action: dict[str, Any], agent: str) -> list[tuple[str, str]]:
    """The headers that an action asks for, and the two that it gets if it does not name them."""
    headers = [(header["name"], header.get("value", "")) for header in action.get("httpHeaders") or []]
    names = {name.lower() for name, _ in headers}
    if "user-agent" not in names:
        headers.append(("User-Agent", agent))
    if "accept" not in names:
        headers.append(("Accept", "*/*"))
    return [(name, value) for name, value in headers if not (name.lower() in ("accept", "user-agent") and not value)]


async def get(
    scheme: str, host: str, port: int, path: str, headers: Sequence[tuple[str, str]], timeout: float
) -> ProbeAnswer:
    """GET, following redirects on the same host. Raises ``RequestFailure``."""
    return await _follow(probe_url(scheme, host, port, path), headers, timeout, _PROBE)


async def fetch(text: str, headers: Sequence[tuple[str, str]], timeout: float, most: int) -> ProbeAnswer:
    """GET a URL, of which the certificate is verified, following redirects anywhere; at most so many bytes of the body
    are read. Raises ``RequestFailure``."""
    try:
        url = redirected(probe_url("https", "localhost", 443, "/"), text) if "://" in text else None
    except UrlError as error:
        raise RequestFailure(f'Get "{text}": {error}') from error
    if url is None:
        raise RequestFailure(f'Get "{text}": unsupported protocol scheme ""')
    return await _follow(url, headers, timeout, _Way(most, leaves_host=True, verify=True))


@dataclass(frozen=True, slots=True)
class _Way:
    """``leaves_host``: whether redirects to other hosts are followed."""

    most: int
    leaves_host: bool = False
    verify: bool = False


_PROBE = _Way(MAX_BODY)
_SECRET = frozenset(("authorization", "www-authenticate", "cookie", "cookie2"))
"""Headers that no other host gets."""


async def _follow(url: Url, headers: Sequence[tuple[str, str]], timeout: float, way: _Way) -> ProbeAnswer:
    try:
        async with asyncio.timeout(timeout):
            for _ in range(_MAX_REDIRECTS):
                answer = await _get_once(url, headers, way)
                if answer.status not in REDIRECTS or not answer.location:
                    return answer
                target = redirected(url, answer.location)
                if target.host.lower() != url.host.lower():
                    if not way.leaves_host:
                        return answer
                    headers = [(name, value) for name, value in headers if name.lower() not in _SECRET]
                url = target
            raise RequestFailure(f'Get "{url}": stopped after {_MAX_REDIRECTS} redirects')
    except UrlError as error:
        raise RequestFailure(f'Get "{url}": {error}') from error
    except TimeoutError:
        raise RequestFailure(
            f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
        ) from None
    except OSError as error:
        raise RequestFailure(f'Get "{url}": {connection_failure(error, url.host, url.port, url.host)}') from error
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        raise RequestFailure(f'Get "{url}": EOF') from error


@functools.cache
def _insecure_context() -> ssl.SSLContext:
    """Probes do not verify certificates: a pod is asked by its address, and only whether it answers.

    Made once: reading the machine's authorities, as a context of Python's own does, holds the loop for 20 ms.
    """
    return client_context(verify=False)


@functools.cache
def _secure_context() -> ssl.SSLContext:
    return client_context()


async def _get_once(url: Url, headers: Sequence[tuple[str, str]], way: _Way) -> ProbeAnswer:
    tls = (_secure_context() if way.verify else _insecure_context()) if url.scheme == "https" else None
    reader, writer = await asyncio.open_connection(url.host, url.port, ssl=tls)
    try:
        own_host = next((value for name, value in headers if name.lower() == "host"), url.authority)
        lines = [f"GET {url.target} HTTP/1.1", f"Host: {own_host}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers if name.lower() != "host"]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await _read_body(reader, fields, way.most)
        return ProbeAnswer(int(head[0].split(" ", 2)[1]), body, fields.get("location", ""))
    finally:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


async def _read_body(reader: asyncio.StreamReader, fields: dict[str, str], most: int) -> bytes:
    """At most so many bytes of the body; the rest does not matter."""
    if "content-length" in fields:
        return await reader.readexactly(min(int(fields["content-length"]), most))
    if "chunked" not in fields.get("transfer-encoding", ""):
        return await _read_up_to(reader, most)
    body = bytearray()
    while len(body) < most:
        size = int((await reader.readline()).split(b";")[0].strip() or b"0", 16)
        if size == 0:
            break
        body += await reader.readexactly(min(size, most - len(body)))
        if len(body) < most:
            await reader.readline()
    return bytes(body)


async def _read_up_to(reader: asyncio.StreamReader, limit: int) -> bytes:
    body = bytearray()
    while len(body) < limit and (piece := await reader.read(limit - len(body))):
        body += piece
    return bytes(body)
