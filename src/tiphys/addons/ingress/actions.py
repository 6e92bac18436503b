"""What is done to a group's requests and answers, as lines of haproxy's configuration (pure).

What tenants write are values of a map file, each on a line of its own, and looked up by their number: haproxy reads no
more than text in them, whatever they are. Only names of headers stand in the configuration itself.

Source: https://docs.haproxy.org/2.6/configuration.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tiphys.addons.ingress.model import Filters, HeaderChange, PathChange, Redirect, TargetGroup

VALUES = "values.map"
_SCHEMES = {"http": 80, "https": 443}


def values_of(groups: Iterable[TargetGroup]) -> bytes:
    """The map file of what tenants wrote."""
    lines: list[str] = []
    for group in groups:
        values = _Values(group.name, "")
        _lines(group.filters, values)
        lines += values.lines
    return "".join(lines).encode()


def actions_of(group: TargetGroup, folder: str) -> str:
    """The lines of the group's backend; ``folder`` is where the map file is."""
    lines = _lines(group.filters, _Values(group.name, folder))
    if not group.resolved and group.filters.redirect is None:
        lines.append('http-request return status 500 content-type text/plain string "500: no such backend\\n"')
    return "".join(f"  {line}\n" for line in lines)


class _Values:
    """Puts tenants' words into the map, and says how each is looked up: the same number for the same word each time."""

    def __init__(self, group: str, folder: str) -> None:
        self._group, self._folder = group, folder
        self.lines: list[str] = []

    def put(self, text: str) -> str:
        if not text:
            return ""
        key = f"{self._group}:{len(self.lines)}"
        self.lines.append(f"{key} {text}\n")
        return f"%[str({key}),map_str({self._folder}/{VALUES})]"


def _lines(filters: Filters, values: _Values) -> list[str]:
    lines = [*_headers("http-request", filters.request, values)]
    # Of all answers, a redirect's included.
    lines += _headers("http-after-response", filters.response, values)
    if filters.redirect is not None:
        lines += _redirect(filters.redirect, values)
    if filters.rewrite is not None:
        if filters.rewrite.host:
            lines.append(f"http-request set-header Host {values.put(filters.rewrite.host)}")
        if filters.rewrite.path is not None:
            lines += _rest(filters.rewrite.path)
            lines.append(f"http-request set-path {_path(filters.rewrite.path, values)}")
    return lines


def _headers(rule: str, changes: Sequence[HeaderChange], values: _Values) -> Iterable[str]:
    for change in changes:
        yield " ".join(filter(None, (rule, f"{change.operation}-header", change.name, values.put(change.value))))


def _redirect(redirect: Redirect, values: _Values) -> Iterable[str]:
    """One line for each scheme of requests: whether the port is said depends on the scheme of the answer."""
    host = values.put(redirect.host) or "%[var(txn.host)]"
    path = "%[path]"
    if redirect.path is not None:
        yield from _rest(redirect.path)
        path = _path(redirect.path, values)
    yield "http-request set-var(txn.asked) query"
    yield "http-request set-var(txn.query) str(?),concat(,txn.asked) if { var(txn.asked) -m len gt 0 }"
    for asked in _SCHEMES:
        scheme = redirect.scheme or asked
        port = f":{redirect.port}" if redirect.port not in (None, _SCHEMES[scheme]) else ""
        where = f"{scheme}://{host}{port}{path}%[var(txn.query)]"
        yield f"http-request redirect location {where} code {redirect.code} if {{ var(txn.scheme) -m str {asked} }}"


def _rest(change: PathChange) -> Iterable[str]:
    """What follows the prefix, for ``_path``; a path that would be empty is ``/``."""
    if change.prefix is None:
        return
    yield f"http-request set-var(txn.rest) path,bytes({change.prefix})"
    if not change.value:
        yield "http-request set-var(txn.rest) str(/) if { var(txn.rest) -m len 0 }"


def _path(change: PathChange, values: _Values) -> str:
    return values.put(change.value) + ("" if change.prefix is None else "%[var(txn.rest)]")
