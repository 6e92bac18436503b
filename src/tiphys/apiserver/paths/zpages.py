"""``/statusz`` and ``/flagz``: what runs here, since when, and with which flags; for people, and as objects.

Source: KEP-4827 (component statusz) and KEP-4828 (component flagz).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tiphys.api.object import Object
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.accept import JSON, YAML, not_acceptable, read_accept
from tiphys.apiserver.endpoints.negotiation import Form
from tiphys.apiserver.endpoints.respond import show
from tiphys.controlkit.serving.zpages import GROUP, VERSIONS, Running, flags_text, page
from tiphys.runtime.clock import Clock
from tiphys.wire.http import Response

_TEXT = "text/plain"
_ACCEPTED = (JSON, YAML, _TEXT)


class Pages:
    """``name`` is the component's; ``paths`` are those that its status names."""

    def __init__(self, name: str, clock: Clock, flags: Mapping[str, str], paths: Sequence[str]) -> None:
        self._name = name
        self._flags = flags
        self._running = Running(name, clock, paths)

    async def status(self, call: Call) -> Response:
        return _show(call, "Statusz", self._name, self._running.status(), self._running.status_text)

    async def flags(self, call: Call) -> Response:
        return _show(call, "Flagz", self._name, {"flags": dict(self._flags)}, lambda: flags_text(self._flags))


def _show(call: Call, kind: str, name: str, content: Object, text: Callable[[], str]) -> Response:
    """As an object for clients that accept that kind by name, as a text for all others. Raises 406."""
    for clause in read_accept(call.request.headers.get("accept") or "*/*"):
        media = f"{clause.type}/{clause.subtype}"
        asked, group, version = clause.view or ("", "", "")
        if not clause.view and media in ("*/*", "text/*", _TEXT):
            body = page(name, kind, text())
            return Response(200, {"Content-Type": f"{_TEXT}; charset=utf-8"}, body)
        if media in (JSON, YAML) and (asked, group) == (kind, GROUP) and version in VERSIONS:
            head = {"kind": kind, "apiVersion": f"{GROUP}/{version}", "metadata": {"name": name}}
            response = show(call, head | content, Form(media))
            response.headers["Content-Type"] = f"{media};g={GROUP};v={version};as={kind}"
            return response
    raise not_acceptable(accepted=_ACCEPTED)
