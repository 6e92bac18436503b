"""``/statusz`` and ``/flagz``: what runs here, since when, and with which flags; for people, and as objects.

Source: KEP-4827 (component statusz) and KEP-4828 (component flagz).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from tiphys.api.meta.timestamps import format_time
from tiphys.api.object import Object
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.accept import JSON, YAML, not_acceptable, read_accept
from tiphys.apiserver.endpoints.negotiation import Form
from tiphys.apiserver.endpoints.respond import show
from tiphys.runtime.clock import Clock
from tiphys.runtime.version import MAJOR, MINOR, version_info
from tiphys.wire.http import Response

_GROUP = "config.k8s.io"
_VERSIONS = ("v1alpha1", "v1beta1")
_TEXT = "text/plain"
_ACCEPTED = (JSON, YAML, _TEXT)
_WARNING = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for"
    " debugging purposes only."
)


class Pages:
    """``name`` is the component's; ``paths`` are those that its status names."""

    def __init__(self, name: str, clock: Clock, flags: Mapping[str, str], paths: Sequence[str]) -> None:
        self._name, self._clock = name, clock
        self._flags, self._paths = flags, paths
        self._started = clock.now()

    async def status(self, call: Call) -> Response:
        return _show(call, "Statusz", self._name, self._status(), self._status_text)

    async def flags(self, call: Call) -> Response:
        return _show(call, "Flagz", self._name, {"flags": dict(self._flags)}, self._flags_text)

    def _status(self) -> Object:
        version = version_info()
        return {
            "startTime": format_time(self._started),
            "uptimeSeconds": int(self._clock.now() - self._started),
            "goVersion": version["goVersion"],
            "binaryVersion": version["gitVersion"].removeprefix("v"),
            "emulationVersion": f"{MAJOR}.{MINOR}",
            "paths": list(self._paths),
        }

    def _status_text(self) -> str:
        status = self._status()
        minutes, seconds = divmod(status["uptimeSeconds"], 60)
        rows = {
            "Started": time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(self._started)),
            "Up": f"{minutes // 60} hr {minutes % 60:02} min {seconds:02} sec",
            "Go version": status["goVersion"],
            "Binary version": status["binaryVersion"],
            "Emulation version": status["emulationVersion"],
            "Paths": " ".join(self._paths),
        }
        return "\n" + "".join(f"{name}: {value}\n" for name, value in rows.items())

    def _flags_text(self) -> str:
        return "".join(f"{name}:{value}\n" for name, value in sorted(self._flags.items()))


def _show(call: Call, kind: str, name: str, content: Object, text: Callable[[], str]) -> Response:
    """As an object for clients that accept that kind by name, as a text for all others. Raises 406."""
    for clause in read_accept(call.request.headers.get("accept") or "*/*"):
        media = f"{clause.type}/{clause.subtype}"
        asked, group, version = clause.view or ("", "", "")
        if not clause.view and media in ("*/*", "text/*", _TEXT):
            body = f"\n{name} {kind.lower()}\n{_WARNING}\n{text()}"
            return Response(200, {"Content-Type": f"{_TEXT}; charset=utf-8"}, body.encode())
        if media in (JSON, YAML) and (asked, group) == (kind, _GROUP) and version in _VERSIONS:
            head = {"kind": kind, "apiVersion": f"{_GROUP}/{version}", "metadata": {"name": name}}
            response = show(call, head | content, Form(media))
            response.headers["Content-Type"] = f"{media};g={_GROUP};v={version};as={kind}"
            return response
    raise not_acceptable(accepted=_ACCEPTED)


def flag_values(flags: Mapping[str, object]) -> dict[str, str]:
    """Flags as Go prints them: names with dashes, lists in brackets, and nothing for what is not set."""
    return {name.replace("_", "-"): _go(value) for name, value in flags.items()}


def _go(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case list() | tuple():
            return f"[{','.join(map(str, value))}]"
        case dict():
            return ",".join(f"{key}={_go(item)}" for key, item in value.items())
        case _:
            return str(value)
