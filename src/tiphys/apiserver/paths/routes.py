"""The paths that name no API object, and the index of them.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/ and .../health-checks/
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping

import orjson

from tiphys.api import codec, errors, protobuf
from tiphys.api.object import Object
from tiphys.api.scheme import Scheme
from tiphys.apiserver.aggregator.documents import RemoteDocuments
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.accept import JSON, PROTOBUF, WRITTEN, YAML, choose, is_produced, not_produced
from tiphys.apiserver.endpoints.negotiation import Form, negotiate_document, wants_pretty
from tiphys.apiserver.endpoints.notfound import TEXT, not_found
from tiphys.apiserver.endpoints.respond import show
from tiphys.apiserver.metrics import RequestMetrics
from tiphys.apiserver.paths import discovery
from tiphys.apiserver.paths.health import HealthPath
from tiphys.apiserver.paths.openapi import Documents
from tiphys.apiserver.paths.zpages import Pages
from tiphys.controlkit.serving import pprof
from tiphys.runtime.version import version_info
from tiphys.wire.health import indicators
from tiphys.wire.http import Handler as HttpHandler
from tiphys.wire.http import Response

Keys = Callable[[], list[Object]]

_JWKS = "application/jwk-set+json"
_AGGREGATED = ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2")
_AGGREGATED_PARAMETERS = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class Paths:
    """``jwks`` gives the public keys of service account tokens; ``address`` is where the server can be reached."""

    def __init__(
        self,
        *,
        scheme: Scheme,
        health: list[HealthPath],
        metrics: RequestMetrics,
        issuer: str,
        jwks_uri: str,
        jwks: Keys,
        address: str,
        documents: Documents,
        remote: RemoteDocuments,
        pages: Pages,
        debug: Mapping[str, Callable[[], str]],
        profiling: HttpHandler | None = None,
    ) -> None:
        """``debug`` are further pages of text, by path; ``profiling`` has those of ``pprof``."""
        self.profiling = profiling
        self._scheme = scheme
        self._documents = documents
        self._remote = remote
        self._health = {check.name: check for check in health}
        self._metrics = metrics
        self.all_figures: Callable[[bytes], Awaitable[bytes]] | None = None
        """Of several processes on one port: this one's figures with those of the others."""
        self._issuer = issuer
        self._jwks_uri = jwks_uri or f"https://{address}/openid/v1/jwks"
        self._jwks = jwks
        self._address = address
        self._handlers: dict[str, Callable[[Call], Awaitable[Response]]] = {
            "/": self._index,
            "/index.html": self._index,
            "/apis": self._apis,
            "/apis/": self._apis,
            "/flagz": pages.flags,
            "/metrics": self._show_metrics,
            "/metrics/slis": self._show_indicators,
            "/statusz": pages.status,
            "/openapi/v2": documents.show_v2,
            "/openapi/v3": documents.index_v3,
        }
        self._handlers |= {path: _text_page(show) for path, show in debug.items()}
        """By exact path, for any method: upstream's handlers of these do not look at it."""
        self._routes: dict[str, Callable[[Call], Awaitable[Response]]] = {
            "/api": self._api,
            "/openid/v1/jwks": self._show_jwks,
            "/version": self._version,
            "/.well-known/openid-configuration": self._openid,
        }
        """To be read only, with or without a slash at the end."""

    async def __call__(self, call: Call) -> Response:
        path = call.info.path
        if (handler := self._handlers.get(path)) is not None:
            return await handler(call)
        if (route := self._routes.get(path.rstrip("/"))) is not None:
            _check_method(call)
            return await route(call)
        first, slash, rest = path[1:].partition("/")
        if first in self._health and (rest or not slash):
            return await self._health[first].answer(call, rest)
        if first in ("api", "apis"):
            return self._discover(call, first, rest.rstrip("/"))
        if self.profiling is not None and path.startswith(pprof.PREFIX):
            return await self.profiling(call.request)
        if path.startswith("/openapi/v3/"):
            return await self._documents.show_v3(call, path.removeprefix("/openapi/v3/"))
        if first == "version":
            raise errors.no_such_path()
        return not_found()

    # -- discovery

    async def _index(self, call: Call) -> Response:
        paths = set(self._handlers) | set(self._routes) | {"/openapi/v3/"} | {f"/{name}" for name in self._health}
        paths |= {f"/{h.name}/{check}" for h in self._health.values() for check in h.checks}
        for group, versions in self._groups().items():
            base = f"/apis/{group}" if group else "/api"
            paths |= {base, *(f"{base}/{version}" for version in versions)}
        return show(call, {"paths": sorted(paths - {"/", "/index.html"})})

    def _groups(self) -> dict[str, list[str]]:
        return self._remote.groups(self._scheme.groups())

    async def _api(self, call: Call) -> Response:
        if (media := _aggregated_form(call)) is not None:
            return self._aggregated(call, media, core=True)
        return show(call, discovery.api_versions(self._address), negotiate_document(call, WRITTEN))

    async def _apis(self, call: Call) -> Response:
        if (media := _aggregated_form(call)) is not None:
            return self._aggregated(call, media, core=False)
        return show(call, discovery.group_list(self._groups()), negotiate_document(call))

    def _aggregated(self, call: Call, media: str, *, core: bool) -> Response:
        document = discovery.aggregated(self._scheme, self._groups(), self._remote, core=core)
        body = orjson.dumps(document)
        tag = hashlib.sha512(body).hexdigest().upper()
        if media == YAML:
            body = codec.to_yaml(body)
        elif media == PROTOBUF:
            body = protobuf.encode(document)
        headers = {"Vary": "Accept", "Cache-Control": "public"}
        return _cached(call, body, f"{media};{_AGGREGATED_PARAMETERS}", headers, tag)

    def _discover(self, call: Call, root: str, rest: str) -> Response:
        """``/api/VERSION``, ``/apis/GROUP`` and ``/apis/GROUP/VERSION``."""
        group, slash, version = ("", "/", rest) if root == "api" else rest.partition("/")
        if not slash:
            document = discovery.group(self._groups(), group)
            if document is None:
                return not_found()
            return show(call, document, negotiate_document(call))
        document = discovery.resource_list(self._scheme, group, version)
        if document is None:
            if group and group not in self._groups():
                return not_found()
            raise errors.no_such_path()
        if any(resource.builtin for resource in self._scheme.resources() if resource.group == group):
            _check_method(call)
            return show(call, document, negotiate_document(call, WRITTEN))
        return show(call, document, negotiate_document(call))  # who serves custom resources does not look at the method

    # -- the rest

    async def _version(self, call: Call) -> Response:
        _check_produced(call, JSON)
        return show(call, version_info(), Form(pretty=wants_pretty(call)))

    async def _show_metrics(self, call: Call) -> Response:
        from tiphys.runtime.metrics import CONTENT_TYPE

        figures = self.figures()
        if self.all_figures is not None:
            figures = await self.all_figures(figures)
        return Response(200, {"Content-Type": CONTENT_TYPE}, figures)

    def figures(self) -> bytes:
        """This process's metrics, in the text exposition format."""
        from tiphys.runtime.metrics import Registry

        return Registry(self._metrics).expose()

    async def _show_indicators(self, call: Call) -> Response:
        from tiphys.runtime.metrics import CONTENT_TYPE

        return Response(200, {"Content-Type": CONTENT_TYPE}, indicators(self._health.values()).encode())

    async def _openid(self, call: Call) -> Response:
        _check_produced(call, JSON)
        document = {
            "issuer": self._issuer,
            "jwks_uri": self._jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted({key["alg"] for key in self._jwks()}),
        }
        return Response(200, {"Content-Type": "application/json", "Cache-Control": "public, max-age=3600"},
                        orjson.dumps(document))  # fmt: skip

    async def _show_jwks(self, call: Call) -> Response:
        _check_produced(call, _JWKS)
        headers = {"Content-Type": _JWKS, "Cache-Control": "public, max-age=3600"}
        return Response(200, headers, orjson.dumps({"keys": self._jwks()}))


def _aggregated_form(call: Call) -> str | None:
    """The media type, if the client accepts the aggregated form at all: it is then preferred to all others."""
    chosen = choose(call.request.headers.get("accept", ""), lambda media, view: view == _AGGREGATED)
    return chosen[0] if chosen is not None else None


def _check_produced(call: Call, media: str) -> None:
    """Raises 406 if the one form of a document is not what the client accepts."""
    if not is_produced(call.request.headers.get("accept", ""), (media,)):
        raise not_produced((media,))


def _text_page(show: Callable[[], str]) -> Callable[[Call], Awaitable[Response]]:
    async def answer(call: Call) -> Response:
        return Response(200, {"Content-Type": TEXT}, show().encode())

    return answer


def _check_method(call: Call) -> None:
    if call.request.method != "GET":
        raise errors.method_not_allowed()


def _cached(call: Call, body: bytes, media: str, headers: dict[str, str], tag: str = "") -> Response:
    """An answer that the client may have already, by its entity tag."""
    tag = tag or hashlib.sha512(body).hexdigest().upper()
    quoted = f'"{tag}"'
    common = {"ETag": quoted, **headers}
    if call.request.headers.get("if-none-match") == quoted:
        return Response(304, common, b"")
    return Response(200, {"Content-Type": media, **common}, body)
