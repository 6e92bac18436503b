"""``/debug/pprof/``: profiles of a component, which ``go tool pprof`` reads.

What Go's runtime counts and Python's does not (allocations, locks) has no page. Tasks are shown where Go's programs
show goroutines. Source: https://pkg.go.dev/net/http/pprof
"""

from __future__ import annotations

import asyncio
import sys

from tiphys.wire.http import Handler, Request, Response

PREFIX = "/debug/pprof/"
_SECONDS = 30.0
_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
_INDEX = """<html><head><title>/debug/pprof/</title></head><body>
<p>Profiles for go tool pprof:</p>
<table>
<tr><td><a href='profile?seconds=30'>profile</a></td><td>processor time of every thread, by function</td></tr>
<tr><td><a href='goroutine?debug=1'>goroutine</a></td><td>where every task stands; with debug, as text</td></tr>
<tr><td><a href='cmdline'>cmdline</a></td><td>the command line of the process</td></tr>
</table></body></html>
"""


def profiled(pages: Handler) -> Handler:
    """A component's pages, and its profiles beside them."""
    profiles = Profiling()

    async def handle(request: Request) -> Response:
        return await (profiles if request.path.startswith(PREFIX) else pages)(request)

    return handle


class Profiling:
    """An HTTP ``Handler`` for the paths under ``PREFIX``. One profile of processor time is taken at a time."""

    def __init__(self) -> None:
        self._taken = asyncio.Lock()

    async def __call__(self, request: Request) -> Response:
        match request.path.removeprefix(PREFIX):
            case "":
                return Response(200, {"Content-Type": "text/html; charset=utf-8"}, _INDEX.encode())
            case "cmdline":
                return Response(200, dict(_TEXT), "\x00".join(sys.orig_argv).encode())
            case "goroutine":
                return _tasks(request)
            case "profile":
                return await self._profile(request)
        return Response(404, dict(_TEXT), b"Unknown profile\n")

    async def _profile(self, request: Request) -> Response:
        from tiphys.runtime.system import profiles

        try:
            seconds = float((request.parameters().get("seconds") or [str(_SECONDS)])[0])
        except ValueError:
            seconds = _SECONDS
        if not 0 < seconds <= profiles.MOST_SECONDS:
            seconds = _SECONDS
        if self._taken.locked():
            return Response(500, dict(_TEXT), b"Could not enable CPU profiling: cpu profiling already in use\n")
        async with self._taken:
            seen = await asyncio.to_thread(profiles.sample, seconds)
        return _download("profile", profiles.processor_profile(seen, seconds))


def _tasks(request: Request) -> Response:
    from tiphys.runtime.system import profiles

    if (request.parameters().get("debug") or ["0"])[0] not in ("", "0"):
        return Response(200, dict(_TEXT), profiles.tasks_text().encode())
    return _download("goroutine", profiles.task_profile(profiles.tasks()))


def _download(name: str, body: bytes) -> Response:
    disposition = f'attachment; filename="{name}"'
    headers = {"Content-Type": "application/octet-stream", "Content-Disposition": disposition}
    return Response(200, headers, body)
