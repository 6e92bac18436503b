"""From a call to its endpoint: the resource and version in the path, its subresource, and the verb.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple, Protocol

from tiphys.api import errors
from tiphys.api.scheme import Resource, Scheme
from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.call import Call, Endpoint
from tiphys.apiserver.endpoints.deprecation import WARNINGS
from tiphys.apiserver.endpoints.notfound import not_found
from tiphys.apiserver.endpoints.parts import PART_RULES, PartTarget
from tiphys.apiserver.endpoints.subresources.scale import ScaleTarget
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.verbs.create import create
from tiphys.apiserver.endpoints.verbs.delete import delete
from tiphys.apiserver.endpoints.verbs.deletecollection import deletecollection
from tiphys.apiserver.endpoints.verbs.get import get
from tiphys.apiserver.endpoints.verbs.list import list_
from tiphys.apiserver.endpoints.verbs.patch import patch
from tiphys.apiserver.endpoints.verbs.update import update
from tiphys.apiserver.endpoints.verbs.watch import watch
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.registry import Registry
from tiphys.apiserver.requestinfo import RequestInfo
from tiphys.wire.http import Response

Read = Callable[[Call, Target], Awaitable[Response]]
Write = Callable[[Call, Target, AdmissionChain], Awaitable[Response]]

_READS: dict[str, Read] = {"get": get, "list": list_, "watch": watch}
_WRITES: dict[str, Write] = {
    "create": create,
    "update": update,
    "patch": patch,
    "delete": delete,
}
_CONNECTIONS = frozenset(("attach", "exec", "portforward", "proxy"))
_OBJECT_SUBRESOURCES = frozenset(("", "status", "scale", *PART_RULES))


class Special(Protocol):
    """An endpoint that is no verb on a stored object: a review, a binding, a connection."""

    async def __call__(self, call: Call, target: Target) -> Response: ...


class Route(NamedTuple):
    """What all calls of one shape have in common: they are checked once, until the resource is another."""

    resource: Resource
    target: Target
    special: Special | None
    warning: str


class Router:
    """``special`` holds the endpoints of resources and subresources that are not stored, by (group, "plural[/sub]")."""

    def __init__(
        self,
        *,
        scheme: Scheme,
        registries: Registries,
        admission: AdmissionChain,
        special: dict[tuple[str, str], Special],
        paths: Endpoint,
        watch_seconds: float,
        delete_workers: int,
    ) -> None:
        self._scheme = scheme
        self._registries = registries
        self._admission = admission
        self._special = special
        self._paths = paths
        self._watch_seconds = watch_seconds
        self._writes: dict[str, Write] = {
            **_WRITES,
            "deletecollection": partial(deletecollection, workers=delete_workers),
        }
        self._targets: dict[tuple[str, str, str, str], Target] = {}
        self._routes: dict[tuple[object, ...], Route] = {}

    async def __call__(self, call: Call) -> Response:
        """Answer a call by its resource, version, subresource and verb. Raises ``StatusError``."""
        info = call.info
        if not info.is_resource:
            return await self._paths(call)
        if info.verb == "proxy":
            raise errors.no_such_path()
        resource = self._scheme.resource(info.group, info.resource)
        if resource is None or info.version not in resource.versions:
            return self._nowhere(info.group)
        shape = _shape(call)
        route = self._routes.get(shape)
        if route is None or route.resource is not resource:
            if resource.custom and not _is_in_scope(call, resource):
                return self._nowhere(info.group)
            self._check(call, resource)
            route = self._routes[shape] = self._route(call, resource)
        if route.warning:
            call.warn(route.warning)
        target, special = route.target, route.special
        if special is not None:
            if info.subresource in _CONNECTIONS and "dryRun" in call.parameters:
                raise errors.bad_request("dryRun is not supported")
            return await special(call, target)
        if info.subresource not in _OBJECT_SUBRESOURCES:
            raise errors.no_such_path()
        if (read := _READS.get(info.verb)) is not None:
            return await read(call, target)
        return await self._writes[info.verb](call, target, self._admission)

    def _route(self, call: Call, resource: Resource) -> Route:
        """The route of a call that has been checked."""
        info = call.info
        special = self._special.get((info.group, f"{info.resource}/{info.subresource}".rstrip("/")))
        target = self._target(resource, info.version, info.subresource)
        return Route(resource, target, special, _warning(resource, info.version))

    def _nowhere(self, group: str) -> Response:
        """Of the groups of the server itself, a Status says that a path leads nowhere; elsewhere a line of text."""
        if any(resource.builtin for resource in self._scheme.resources() if resource.group == group):
            raise errors.no_such_path()
        return not_found()

    def _check(self, call: Call, resource: Resource) -> None:
        """Refuse what the resource does not have: a scope, a subresource or a verb."""
        info = call.info
        if not _is_in_scope(call, resource):
            spans = resource.namespaced and "list" in resource.verbs and not info.namespace and not info.name_in_path
            raise errors.method_not_allowed() if spans else errors.no_such_path()
        verbs = resource.verbs
        if info.subresource:
            subresource = resource.subresource(info.subresource, info.version)
            if info.subpath and info.subresource != "proxy" and resource.builtin:
                raise errors.no_such_path()
            if subresource is None:
                raise _no_subresource(resource, info.name)
            verbs = subresource.verbs
        elif info.name_in_path and not resource.custom and not _NAMED & set(verbs):
            raise errors.no_such_path()
        if info.verb not in verbs and not _asks_options_of_proxied(call):
            if resource.custom:
                raise errors.method_not_supported(resource.group, resource.plural, info.verb)
            raise errors.method_not_allowed()
        if not resource.custom and not _has_route(call):
            raise errors.method_not_allowed()

    def _target(self, resource: Resource, version: str, subresource: str) -> Target:
        key = (resource.group, resource.plural, version, subresource)
        target = self._targets.get(key)
        if target is None or target.resource is not resource:
            registry = self._registries.get(resource.group, resource.plural)
            make = _target_maker(resource, subresource)
            target = self._targets[key] = make(resource, version, registry, subresource, self._watch_seconds)
        return target


def _shape(call: Call) -> tuple[object, ...]:
    """Everything about a call that ``Router._check`` looks at: of names, and of subpaths, whether there are any."""
    info = call.info
    return (info.group, info.version, info.resource, info.subresource, info.verb, call.request.method,
            not info.namespace, not info.name_in_path, not info.subpath, _is_own_namespace(info))  # fmt: skip


_NAMED = {"get", "update", "patch", "delete"}
"""The verbs that have a path with a name."""


def _target_maker(resource: Resource, subresource: str) -> Callable[[Resource, str, Registry, str, float], Target]:
    if resource.custom:
        from tiphys.apiserver.crd.target import custom_target

        return custom_target
    return ScaleTarget if subresource == "scale" else PartTarget if subresource in PART_RULES else Target


def _no_subresource(resource: Resource, name: str) -> errors.StatusError:
    return errors.not_found(resource.group, resource.plural, name) if resource.custom else errors.no_such_path()


def _warning(resource: Resource, version: str) -> str:
    """The warning about the use of a version that will be removed."""
    if resource.custom:
        return resource.custom[version].warning
    return WARNINGS.get((resource.group, version, resource.plural), "")


def _has_route(call: Call) -> bool:
    """Whether there is a route for the method: objects are made in collections and changed in their own place."""
    info = call.info
    method = call.request.method
    if (method == "HEAD" and info.subresource != "proxy") or (info.verb == "watch" and method != "GET"):
        return False
    if info.name_in_path:
        return info.verb != "create" or bool(info.subresource)
    return info.verb not in ("update", "patch", "delete")


def _asks_options_of_proxied(call: Call) -> bool:
    """The one method without a verb that is carried on: what is proxied answers it."""
    return call.request.method == "OPTIONS" and call.info.subresource == "proxy"


def _is_in_scope(call: Call, resource: Resource) -> bool:
    return resource.namespaced == bool(call.info.namespace) or _may_span(call, resource)


def _is_own_namespace(info: RequestInfo) -> bool:
    return info.namespace in ("", info.name)


def _may_span(call: Call, resource: Resource) -> bool:
    """Lists and watches span all namespaces; a namespace itself is found in its own name's place."""
    info = call.info
    if resource.plural == "namespaces" and not resource.group:
        return _is_own_namespace(info)
    is_collection = info.verb in ("list", "watch") and not info.name_in_path
    return resource.namespaced and is_collection and "list" in resource.verbs
