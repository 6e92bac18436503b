"""``WebhookClient``: sends a review, as JSON, to where a ``clientConfig`` points, and reads the answer.

Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#contacting-the-webhook
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import orjson

from tiphys.api.gotext import quote
from tiphys.apiserver.registry.registries import Registries
from tiphys.wire.client import SocketTransport
from tiphys.wire.http import BodyTooLarge, Headers, Request
from tiphys.wire.tls import client_context
from tiphys.wire.transports import Transports

Object = dict[str, Any]

_MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer; more if what was asked about is large itself, as lists that are converted are."""
_DISCOVERY = "discovery.k8s.io"


class CallFailed(Exception):
    """The webhook could not be asked, or gave no answer that can be read; the text says why, as client-go words it."""


class WebhookCaller(Protocol):
    async def call(self, config: Object, body: Object, timeout: float) -> Object:
        """``config`` is a ``clientConfig``; ``timeout`` in seconds. Raises ``CallFailed``."""
        ...


class Place(NamedTuple):
    """Where a webhook is: ``host`` and ``port`` to connect to, ``name`` that its certificate must carry."""

    host: str
    port: int
    name: str
    path: str
    url: str
    """As errors show it."""


class WebhookClient:
    """Keeps a transport for each place. Services are reached at one of their ready endpoints."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self._transports: Transports[tuple[str, int, str, str]] = Transports(_transport)

    async def call(self, config: Object, body: Object, timeout: float) -> Object:
        seconds = max(1, round(timeout))
        place = await self._place(config)
        shown = f'Post "{place.url}?timeout={seconds}s"'
        transport = self._transports.get((place.host, place.port, place.name, config.get("caBundle") or ""))
        headers = Headers({"content-type": "application/json", "accept": "application/json, */*"})
        request = Request("POST", place.path or "/", f"timeout={seconds}s", headers, orjson.dumps(body))
        try:
            async with asyncio.timeout(timeout):
                response = await transport.send(request)
                answer = await response.read(max(_MAX_ANSWER, 4 * len(request.body)))
        except TimeoutError:
            raise CallFailed(f"{shown}: context deadline exceeded") from None
        except BodyTooLarge as error:
            raise CallFailed(f"{shown}: {error}") from None
        except (ConnectionError, OSError, ssl.SSLError) as error:
            raise CallFailed(f"{shown}: dial tcp {place.host}:{place.port}: {reason(error)}") from None
        if not 200 <= response.status < 300:
            raise CallFailed(_refusal(response.status, answer))
        try:
            found = orjson.loads(answer)
        except orjson.JSONDecodeError as error:
            raise CallFailed(f"the answer is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise CallFailed("the answer is no JSON object")
        return found

    async def close(self) -> None:
        await self._transports.close()

    async def _place(self, config: Object) -> Place:
        if url := config.get("url"):
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 443
            return Place(host, port, host, parts.path, url)
        service = config.get("service")
        if service is None:
            raise CallFailed("webhook configuration must have either service or URL")
        namespace, name, port = service["namespace"], service["name"], service.get("port") or 443
        host, target = await self._endpoint(namespace, name, port)
        path = service.get("path") or ""
        shown = f"{name}.{namespace}.svc"
        return Place(host, target, shown, path, f"https://{shown}:{port}{path}")

    async def _endpoint(self, namespace: str, name: str, port: int) -> tuple[str, int]:
        services = self._registries.get("", "services")
        entry = await services.store.cached(namespace, name)
        if entry is None:
            raise CallFailed(f"service {quote(name)} not found")
        spec = services.object(entry)["spec"]
        if spec.get("type") == "ExternalName":
            return spec["externalName"], port
        wanted = next((found for found in spec.get("ports") or () if found["port"] == port), None)
        if wanted is None:
            raise CallFailed(f"no service port {port} found for service {quote(name)}")
        slices = self._registries.get(_DISCOVERY, "endpointslices")
        for entry in await slices.all(namespace):
            slice = slices.shared_object(entry)
            if (slice["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == name:
                for _, address, target in ready_endpoints(slice, wanted.get("name") or ""):
                    return address, target
        raise CallFailed(f"no endpoints available for service {quote(name)}")


def _transport(key: tuple[str, int, str, str]) -> SocketTransport:
    host, port, name, bundle = key
    return SocketTransport(host, port, client_context(base64.b64decode(bundle) if bundle else None), name)


def ready_endpoints(slice: Object, port_name: str) -> Iterator[tuple[Object, str, int]]:
    """What stands behind each endpoint that takes connections (``targetRef``), its address and its port."""
    port = next((p for p in slice.get("ports") or () if (p.get("name") or "") == port_name), None)
    if port is None:
        return
    for endpoint in slice.get("endpoints") or ():
        if (endpoint.get("conditions") or {}).get("ready", True):
            yield endpoint.get("targetRef") or {}, endpoint["addresses"][0], int(port["port"])


def reason(error: Exception) -> str:
    """Why a connection failed, in the words of Go's net package where it has some for it."""
    if isinstance(error, ConnectionRefusedError) or "refused" in str(error):
        return "connect: connection refused"
    return str(error) or type(error).__name__


def _refusal(code: int, text: bytes) -> str:
    """What client-go says of an answer that is a failure and no Status."""
    if code == 404:
        return "the server could not find the requested resource"
    if code >= 500:
        said = quote(text[:2048].decode("utf-8", "replace").strip())
        return f"an error on the server ({said}) has prevented the request from succeeding"
    return f"the server rejected our request for an unknown reason (status {code})"
