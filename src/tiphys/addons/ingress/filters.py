"""What the filters of an HTTPRoute's rule, or of one of its backends, ask for (pure).

Served: RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect and URLRewrite. Every other one is refused by
name. Headers that say how long a message is or who keeps a connection belong to the proxy: a tenant who could change
them could make one answer pass for two, on a connection that others' answers share.

Source: https://gateway-api.sigs.k8s.io/reference/spec/#httproutefilter
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tiphys.addons.ingress.model import (
    Filters,
    HeaderChange,
    PathChange,
    Redirect,
    Rewrite,
    Unusable,
    checked_host,
    checked_path,
)
from tiphys.api.object import Object

_CODES = frozenset({301, 302, 303, 307, 308})
_HEADER = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
_LONGEST_NAME, _LONGEST_VALUE = 256, 4096
_OF_THE_PROXY = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Incompatible(Unusable):
    """Filters that cannot be together in one rule."""


def filters_of(described: Sequence[Object], paths: Sequence[tuple[str, bool]], *, has_backends: bool) -> Filters:
    """The filters of a rule, whose matches have these paths, each exact or a prefix. Raises ``Unusable``."""
    read: dict[str, Any] = {}
    for filter_ in described:
        kind = str(filter_.get("type"))
        if kind not in _READERS:
            raise Unusable(f"filters: {kind[:80]} is not served; {', '.join(_READERS)} are")
        name, field_name, reader = _READERS[kind]
        if name in read:
            raise Incompatible(f"filters: {kind} is there twice")
        if filter_.get(field_name) is None:
            raise Unusable(f"filters: {kind} needs the field {field_name}")
        read[name] = reader(filter_[field_name], kind, paths)
    if "redirect" in read and "rewrite" in read:
        raise Incompatible("filters: RequestRedirect and URLRewrite cannot be together in a rule")
    if "redirect" in read and has_backends:
        raise Incompatible("filters: RequestRedirect cannot be together with backendRefs")
    return Filters(**read)


def followed_by(rule: Filters, own: Filters) -> Filters:
    """The filters of a rule and then those of one of its backends, for what that one gets; of an answer the backend's
    come first. Raises ``Incompatible``."""
    if own.redirect is not None:
        raise Unusable("filters: RequestRedirect is not served for one backend, but for a rule")
    if own.rewrite is not None and rule.rewrite is not None:
        raise Incompatible("filters: URLRewrite is there for the rule already")
    return Filters(rule.request + own.request, own.response + rule.response, rule.redirect, own.rewrite or rule.rewrite)


def _headers(asked: Object, kind: str, _: object) -> tuple[HeaderChange, ...]:
    return tuple(_changes(asked, kind))


def _changes(asked: Object, kind: str) -> Iterator[HeaderChange]:
    """In the order of the fields, so that a header that is set and removed is removed."""
    if unknown := sorted(asked.keys() - {"set", "add", "remove"}):
        raise Unusable(f"filters: {kind}.{unknown[0]} is not served")
    for operation in ("set", "add"):
        for header in asked.get(operation) or ():
            yield HeaderChange(operation, _name(header.get("name") or "", operation, kind), _value(header, kind))
    for name in asked.get("remove") or ():
        yield HeaderChange("del", _name(name, "remove", kind))


def _name(text: str, operation: str, kind: str) -> str:
    if len(text) > _LONGEST_NAME or _HEADER.fullmatch(text) is None:
        raise Unusable(
            f"filters: {kind}: header {text[:80]!r} is not served; its name must be letters, digits, `-`, `_` and `.`"
        )
    if text.lower() in _OF_THE_PROXY or (
        text.lower() == "host" and (operation, kind) != ("set", "RequestHeaderModifier")
    ):
        raise Unusable(f"filters: {kind}: header {text} cannot be changed by `{operation}`: it belongs to the proxy")
    return text


def _value(header: Object, kind: str) -> str:
    text = str(header.get("value") or "").strip(" \t")
    if len(text) > _LONGEST_VALUE or _VALUE.fullmatch(text) is None:
        raise Unusable(f"filters: {kind}: the value of header {header['name'][:80]} is not one line of printable ASCII")
    if str(header["name"]).lower() == "host":
        return checked_host(text, f"filters: {kind}: Host")
    return text


def _redirect(asked: Object, kind: str, paths: Sequence[tuple[str, bool]]) -> Redirect:
    scheme, port, code = asked.get("scheme") or "", asked.get("port"), asked.get("statusCode") or 302
    if unknown := sorted(asked.keys() - {"scheme", "hostname", "path", "port", "statusCode"}):
        raise Unusable(f"filters: {kind}.{unknown[0]} is not served")
    if scheme not in ("", "http", "https"):
        raise Unusable(f"filters: {kind}.scheme is http or https, not {str(scheme)[:80]!r}")
    if code not in _CODES:
        raise Unusable(f"filters: {kind}.statusCode {code} is none of {', '.join(map(str, sorted(_CODES)))}")
    if port is not None and not (isinstance(port, int) and 0 < port < 65536):
        raise Unusable(f"filters: {kind}.port {str(port)[:80]} is no port")
    return Redirect(scheme, _hostname(asked, kind), port, int(code), _path(asked, kind, paths))


def _rewrite(asked: Object, kind: str, paths: Sequence[tuple[str, bool]]) -> Rewrite:
    if unknown := sorted(asked.keys() - {"hostname", "path"}):
        raise Unusable(f"filters: {kind}.{unknown[0]} is not served")
    return Rewrite(_hostname(asked, kind), _path(asked, kind, paths))


def _hostname(asked: Object, kind: str) -> str:
    text = asked.get("hostname") or ""
    if text.startswith("*"):
        raise Unusable(f"filters: {kind}.hostname {text[:80]!r} is no DNS name")
    return checked_host(text, f"filters: {kind}.hostname") if text else ""


def _path(asked: Object, kind: str, paths: Sequence[tuple[str, bool]]) -> PathChange | None:
    change, field_name = asked.get("path"), f"filters: {kind}.path"
    if not change:
        return None
    match change.get("type"):
        case "ReplaceFullPath":
            return PathChange(checked_path(change.get("replaceFullPath") or "/", field_name))
        case "ReplacePrefixMatch":
            if len(paths) != 1 or paths[0][1]:
                raise Unusable(f"{field_name}: ReplacePrefixMatch wants one match of the rule, by PathPrefix")
            value = change.get("replacePrefixMatch") or ""
            return PathChange(
                (checked_path(value, field_name) if value else "").rstrip("/"), len(paths[0][0].rstrip("/"))
            )
    raise Unusable(f"{field_name}: type {str(change.get('type'))[:80]} is not served")


_Reader = Callable[[Object, str, Sequence[tuple[str, bool]]], Any]
_READERS: dict[str, tuple[str, str, _Reader]] = {
    "RequestHeaderModifier": ("request", "requestHeaderModifier", _headers),
    "ResponseHeaderModifier": ("response", "responseHeaderModifier", _headers),
    "RequestRedirect": ("redirect", "requestRedirect", _redirect),
    "URLRewrite": ("rewrite", "urlRewrite", _rewrite),
}
"""By type: the field of ``Filters``, that of the API, and what reads it."""
