"""What a request is about: its verb, and the group, version, resource, namespace and name in its path.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris and the request verbs of
https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from tiphys.wire.http import Request

_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NAMESPACE_SUBRESOURCES = frozenset(("status", "finalize"))
_SELECTING = frozenset(("list", "watch", "deletecollection"))

Parameters = dict[str, list[str]]


@dataclass(slots=True)
class RequestInfo:
    """``resource`` is empty for a request that is not about API objects, such as ``/healthz``."""

    verb: str
    path: str
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    selects_name: bool = False
    """Whether ``name`` is what a field selector asks for, and the path is that of a collection."""
    subpath: str = ""
    """What follows the subresource: the path behind ``…/proxy/``."""
    field_selector: str = ""
    label_selector: str = ""
    error: str = ""
    """Why the path makes no sense, if it does not."""

    @property
    def name_in_path(self) -> str:
        return "" if self.selects_name else self.name

    @property
    def is_resource(self) -> bool:
        return bool(self.version)


def request_info(request: Request, parameters: Parameters) -> RequestInfo:
    """Read a request's path and method. Never fails: what is no API object's path is a path and a lower-case method."""
    path = unquote(request.path) if "%" in request.path else request.path
    info = RequestInfo(request.method.lower(), path)
    if path.startswith("//"):
        return info
    parts = path.strip("/").split("/")
    core = parts[0] == "api"
    if len(parts) < (3 if core else 4) or parts[0] not in ("api", "apis"):
        return info
    if core:
        info.version, rest = parts[1], parts[2:]
    else:
        info.group, info.version, rest = parts[1], parts[2], parts[3:]
    info.verb = _VERBS.get(request.method, "")
    by_path = rest[0] in ("watch", "proxy")
    if by_path:
        if len(rest) < 2:
            info.error = f"unable to determine kind and namespace from url, {request.path}"
            return info
        info.verb, rest = rest[0], rest[1:]
    _read_object(info, rest)
    _refine_verb(info, parameters, by_path=by_path)
    return info


def _read_object(info: RequestInfo, parts: list[str]) -> None:
    """Read ``[namespaces/NAMESPACE/]RESOURCE[/NAME[/SUBRESOURCE[/SUBPATH]]]``."""
    if parts[0] == "namespaces" and len(parts) > 1:
        info.namespace = parts[1]
        if len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
            parts = parts[2:]
    info.resource = parts[0]
    if len(parts) > 1:
        info.name = parts[1]
    if len(parts) > 2 and info.verb != "proxy":
        info.subresource = parts[2]
        info.subpath = "/".join(parts[3:])


def _refine_verb(info: RequestInfo, parameters: Parameters, *, by_path: bool) -> None:
    """Distinguish list and watch from get, and deletecollection from delete."""
    if not info.name and info.verb == "get":
        info.verb = "watch" if is_true(parameters, "watch") else "list"
        info.name = _exact_name(parameters.get("fieldSelector", [""])[0])
        info.selects_name = bool(info.name)
    elif not info.name and info.verb == "delete":
        info.verb = "deletecollection"
    if not by_path and info.verb in _SELECTING:
        info.field_selector = parameters.get("fieldSelector", [""])[0]
        info.label_selector = parameters.get("labelSelector", [""])[0]


def is_true(parameters: Parameters, name: str) -> bool:
    """A boolean query parameter: present and neither ``false`` nor ``0``."""
    values = parameters.get(name)
    return values is not None and values[0].lower() not in ("false", "0")


def _exact_name(selector: str) -> str:
    """The name that a field selector asks for by ``metadata.name=NAME``, so that access can be granted by name."""
    for term in selector.split(","):
        field, equals, value = term.partition("=")
        if equals and field.strip() == "metadata.name":
            return value.removeprefix("=").strip()
    return ""
