"""What ``/statusz`` and ``/flagz`` show: what runs here, since when, and with which flags.

Source: KEP-4827 (component statusz) and KEP-4828 (component flagz).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence

import orjson

from tiphys.api.meta.timestamps import format_time
from tiphys.api.object import Object
from tiphys.runtime.clock import Clock
from tiphys.runtime.version import MAJOR, MINOR, version_info
from tiphys.wire.http import Request, Response

GROUP = "config.k8s.io"
VERSIONS = ("v1alpha1", "v1beta1")
_WARNING = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for"
    " debugging purposes only."
)


class Running:
    """A component that runs: its name, its start, and the paths that it serves."""

    def __init__(self, name: str, clock: Clock, paths: Sequence[str]) -> None:
        self.name, self._clock, self._paths = name, clock, paths
        self._started = clock.now()

    def status(self) -> Object:
        version = version_info()
        return {
            "startTime": format_time(self._started),
            "uptimeSeconds": int(self._clock.now() - self._started),
            "goVersion": version["goVersion"],
            "binaryVersion": version["gitVersion"].removeprefix("v"),
            "emulationVersion": f"{MAJOR}.{MINOR}",
            "paths": list(self._paths),
        }

    def status_text(self) -> str:
        status = self.status()
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


def flags_text(flags: Mapping[str, str]) -> str:
    return "".join(f"{name}:{value}\n" for name, value in sorted(flags.items()))


def page(name: str, kind: str, text: str) -> bytes:
    return f"\n{name} {kind.lower()}\n{_WARNING}\n{text}".encode()


def pages(
    name: str, clock: Clock, flags: Mapping[str, object], paths: Sequence[str]
) -> dict[str, Callable[[Request], Response]]:
    """The two pages of a component that starts now, by their paths; ``paths`` are what else it serves."""
    running, shown = Running(name, clock, paths), flag_values(flags)

    def status(request: Request) -> Response:
        return answer(request, "Statusz", name, running.status(), running.status_text())

    def flagz(request: Request) -> Response:
        return answer(request, "Flagz", name, {"flags": shown}, flags_text(shown))

    return {"/statusz": status, "/flagz": flagz}


def answer(request: Request, kind: str, name: str, content: Object, text: str) -> Response:
    """A page of a component without negotiation of its own: text, or the object for who asks for it by name, or 406."""
    for clause in (request.headers.get("accept") or "*/*").split(","):
        media, *given = (part.strip() for part in clause.split(";"))
        parameters = dict(part.partition("=")[::2] for part in given)
        if not parameters.get("as") and re.fullmatch(r"\*/\*|text/(\*|plain)", media):
            return Response(200, {"Content-Type": "text/plain; charset=utf-8"}, page(name, kind, text))
        version = parameters.get("v", "")
        if (media, parameters.get("as"), parameters.get("g")) == (
            "application/json",
            kind,
            GROUP,
        ) and version in VERSIONS:
            shown = {"kind": kind, "apiVersion": f"{GROUP}/{version}", "metadata": {"name": name}, **content}
            return Response(200, {"Content-Type": f"{media};g={GROUP};v={version};as={kind}"}, orjson.dumps(shown))
    message = "the body of the request was in an unknown format - accepted media types include: text/plain,"
    return Response(406, {"Content-Type": "text/plain; charset=utf-8"}, f"{message} application/json\n".encode())


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
