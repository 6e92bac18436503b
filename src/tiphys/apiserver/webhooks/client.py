"""``WebhookClient``: sends a review, as JSON, to where a ``clientConfig`` points, and reads the answer.

Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#contacting-the-webhook
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple, Protocol
from urllib.parse import urljoin, urlsplit

import orjson

from tiphys.api.codec import jsontext
from tiphys.api.codec.decoding import FIND_KIND
from tiphys.api.codec.typed import type_name
from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.webhooks.credentials import WebhookCredentials
from tiphys.client.kubeconfig import Credentials
from tiphys.wire.client import SocketTransport
from tiphys.wire.http import BodyTooLarge, ClientResponse, Headers, Request
from tiphys.wire.tls.contexts import client_context
from tiphys.wire.transports import Transports
from tiphys.wire.wording import connection_failure

_MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer; more if what was asked about is large itself, as lists that are converted are."""
_MAX_REDIRECTS = 10
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_KEEPING_METHOD = frozenset((307, 308))
_UNREADABLE = "couldn't get version/kind; json parse error:"
_DISCOVERY = "discovery.k8s.io"


class CallFailed(Exception):
    """The webhook could not be asked, or gave no answer that can be read; the text says why, as client-go words it."""


class WebhookCaller(Protocol):
    async def call(self, config: Object, body: Object, timeout: float) -> Object:
        """``config`` is a ``clientConfig``; ``timeout`` in seconds. Raises ``CallFailed``."""
        ...

    async def close(self) -> None: ...


class WebhookTarget(NamedTuple):
    """What a ``clientConfig`` points at. ``name`` is that of a service's certificate; empty: that of the host."""

    url: str
    name: str
    bundle: str
    service: Object | None


class Hop(NamedTuple):
    """One request on the way to an answer; the first, or what a redirect makes of it."""

    method: str
    url: str
    body: bytes

    def __str__(self) -> str:
        """As Go's client names a request that failed: by the verb that it began with."""
        return f'Post "{self.url}"'


Key = tuple[str, int, str | None, str, Credentials | None]
"""Host, port, the name in the certificate (None: without TLS), the authorities, and what the server shows itself."""


class WebhookClient:
    """Keeps a transport for each place. Services are reached at their ready endpoints, which take turns, so that one
    that does not answer fails some requests, and not all.

    Redirects are followed as Go's client does: at most ten, and all but 307 and 308 turn the request into a GET.
    """

    def __init__(self, registries: Registries, credentials: WebhookCredentials | None = None) -> None:
        self._registries = registries
        self._credentials = credentials
        self._transports: Transports[Key] = Transports(_transport)
        self._turns = count()

    async def call(self, config: Object, body: Object, timeout: float) -> Object:
        """Post a review, following redirects; ``timeout`` in seconds. Raises ``CallFailed``."""
        target = _target(config)
        hop = Hop("POST", f"{target.url}?timeout={max(1, round(timeout))}s", orjson.dumps(body))
        limit = max(_MAX_ANSWER, 4 * len(hop.body))
        try:
            async with asyncio.timeout(timeout):
                for _ in range(_MAX_REDIRECTS + 1):
                    response, answer = await self._send(target, hop, limit)
                    following = _redirected(hop, response)
                    if following is None:
                        return _read(response.status, answer)
                    hop = following
        except TimeoutError:
            raise CallFailed(f"{hop}: context deadline exceeded") from None
        raise CallFailed(f"{hop}: stopped after {_MAX_REDIRECTS} redirects")

    async def close(self) -> None:
        await self._transports.close()

    async def _send(self, target: WebhookTarget, hop: Hop, limit: int) -> tuple[ClientResponse, bytes]:
        """Send one request, by the service's endpoint if the target is one. Raises ``CallFailed``."""
        parts = urlsplit(hop.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CallFailed(f"{hop}: unsupported protocol scheme {quote(parts.scheme)}")
        secure = parts.scheme == "https"
        host, port = parts.hostname, parts.port or (443 if secure else 80)
        name = target.name or host
        shown = None if self._credentials is None else self._credentials.of(host, port)
        if target.service is not None and host == target.name:
            try:
                host, port = await self._endpoint(target.service["namespace"], target.service["name"], port)
            except CallFailed as error:
                raise CallFailed(f"{hop}: {error}") from None
        transport = self._transports.get((host, port, name if secure else None, target.bundle, shown))
        headers = Headers({"content-type": "application/json", "accept": "application/json, */*"})
        if shown is not None and shown.token is not None:
            headers["authorization"] = f"Bearer {shown.token()}"
        request = Request(hop.method, parts.path or "/", parts.query, headers, hop.body)
        try:
            response = await transport.send(request)
            return response, await response.read(limit)
        except BodyTooLarge as error:
            raise CallFailed(f"{hop}: {error}") from None
        except OSError as error:
            raise CallFailed(f"{hop}: {connection_failure(error, host, port, name)}") from None

    async def _endpoint(self, namespace: str, name: str, port: int) -> tuple[str, int]:
        services = self._registries.get("", "services")
        entry = await services.store.cached(namespace, name)
        if entry is None:
            raise CallFailed(f"service {quote(name)} not found")
        spec = services.object(entry)["spec"]
        if spec.get("type") == "ExternalName":
            return spec["externalName"], port
        wanted = next((candidate for candidate in spec.get("ports") or () if candidate["port"] == port), None)
        if wanted is None:
            raise CallFailed(f"no service port {port} found for service {quote(name)}")
        endpoints = await service_endpoints(self._registries, namespace, name, wanted.get("name") or "")
        if not endpoints:
            raise CallFailed(f"no endpoints available for service {quote(name)}")
        return endpoints[next(self._turns) % len(endpoints)]


def _target(config: Object) -> WebhookTarget:
    """Raises ``CallFailed``."""
    bundle = config.get("caBundle") or ""
    if url := config.get("url"):
        return WebhookTarget(url, "", bundle, None)
    service = config.get("service")
    if service is None:
        raise CallFailed("webhook configuration must have either service or URL")
    name = f"{service['name']}.{service['namespace']}.svc"
    port = 443 if service.get("port") is None else service["port"]
    return WebhookTarget(f"https://{name}:{port}{service.get('path') or ''}", name, bundle, service)


def _redirected(hop: Hop, response: ClientResponse) -> Hop | None:
    """The request that an answer sends on to, if it does."""
    location = response.headers.get("location")
    if response.status not in _REDIRECTS or not location:
        return None
    url = urljoin(hop.url, location)
    if response.status in _KEEPING_METHOD or hop.method == "GET":
        return Hop(hop.method, url, hop.body)
    return Hop("GET", url, b"")


def _read(status: int, answer: bytes) -> Object:
    """The object in an answer. Raises ``CallFailed``."""
    if not 200 <= status < 300:
        raise CallFailed(_refusal(status, answer))
    try:
        document = orjson.loads(answer)
    except orjson.JSONDecodeError:
        raise CallFailed(f"{_UNREADABLE} {jsontext.problem(answer)}") from None
    if not isinstance(document, dict):
        kind = type_name(jsontext.read(answer))
        raise CallFailed(f"{_UNREADABLE} json: cannot unmarshal {kind} into Go value of type {FIND_KIND}")
    return document


def _transport(key: Key) -> SocketTransport:
    host, port, name, bundle, shown = key
    if name is None:
        return SocketTransport(host, port)
    certificate, private = (None, None) if shown is None else (shown.certificate, shown.key)
    tls = client_context(base64.b64decode(bundle) if bundle else None, certificate, private)
    return SocketTransport(host, port, tls, name)


def _ready_endpoints(slice: Object, port_name: str) -> Iterator[tuple[str, int]]:
    """The address and the port of each endpoint that takes connections."""
    port = next((p for p in slice.get("ports") or () if (p.get("name") or "") == port_name), None)
    if port is None:
        return
    for endpoint in slice.get("endpoints") or ():
        if (endpoint.get("conditions") or {}).get("ready", True):
            yield endpoint["addresses"][0], int(port["port"])


async def service_endpoints(
    registries: Registries, namespace: str, service: str, port_name: str
) -> list[tuple[str, int]]:
    """Where a service is reached: the addresses and ports of its endpoints that take connections."""
    slices = registries.get(_DISCOVERY, "endpointslices")
    return [
        place
        for entry in await slices.all(namespace)
        if entry.labels.get("kubernetes.io/service-name") == service
        for place in _ready_endpoints(slices.shared_object(entry), port_name)
    ]


def _refusal(code: int, text: bytes) -> str:
    """What client-go says of an answer that is a failure and no Status."""
    if code == 404:
        return "the server could not find the requested resource"
    if code >= 500:
        said = quote(text[:2048].decode("utf-8", "replace").strip())
        return f"an error on the server ({said}) has prevented the request from succeeding"
    return f"the server rejected our request for an unknown reason (status {code})"
