"""GET /containerLogs/{namespace}/{pod}/{container}: a container's log, whole, from its end, or as it grows.

Source: https://kubernetes.io/docs/concepts/cluster-administration/logging/
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.controlkit.objects import parse_time
from tiphys.kubelet.container.logs import LogOptions, open_log, read_log
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.runtime.service import ContainerState, RuntimeFailure, RuntimeService
from tiphys.kubelet.server import answers
from tiphys.runtime.clock import Clock
from tiphys.wire.http import Response, Sink

_STREAMS = ("All", "Stdout", "Stderr")
_CHECK_RUNNING = 0.5


class LogRequestError(ValueError):
    """The query cannot be served."""


class Statuses(Protocol):
    def get(self, pod_uid: str) -> Object | None: ...


def options_of(query: Mapping[str, Sequence[str]], now: float) -> tuple[LogOptions, bool]:
    """Options and whether the log of the run before is wanted. Raises ``LogRequestError``."""

    def one(name: str) -> str:
        return (query.get(name) or [""])[0]

    def number(name: str, least: int) -> int | None:
        if not one(name):
            return None
        try:
            amount = int(one(name))
        except ValueError:
            raise LogRequestError('{"message": "Unable to decode query."}') from None
        if amount < least:
            raise LogRequestError('{"message": "Invalid request."}')
        return amount

    def flag(name: str) -> bool:
        return one(name).lower() in ("true", "1", "t")

    tail = number("tailLines", 0)
    since_seconds = number("sinceSeconds", 1)
    stream = one("stream") or "All"
    if (since_seconds is not None and one("sinceTime")) or stream not in _STREAMS:
        raise LogRequestError('{"message": "Invalid request."}')
    if stream != "All" and tail is not None:
        raise LogRequestError('{"message": "Invalid request."}')
    since = now - since_seconds if since_seconds is not None else parse_time(one("sinceTime"))
    options = LogOptions(flag("follow"), tail, since, flag("timestamps"), number("limitBytes", 1), stream)
    return options, flag("previous")


def choose_run(status: Object, pod: Pod, name: str, *, previous: bool) -> str:
    """The id of the run whose log is wanted. Raises ``LogRequestError`` with upstream's message."""
    who = f"container {quote(name)} in pod {quote(pods.name_of(pod))}"
    run = next(
        (
            container
            for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
            for container in status.get(field) or []
            if container["name"] == name
        ),
        None,
    )
    if run is None:
        raise LogRequestError(f"{who} is not available")
    state = run.get("state") or {}
    last = (run.get("lastState") or {}).get("terminated") or {}
    if previous:
        if not last.get("containerID"):
            raise LogRequestError(f"previous terminated {who} not found")
        return _bare(last["containerID"])
    if "running" in state:
        return _bare(run["containerID"])
    ended = state.get("terminated") or {}
    if "terminated" in state or last:
        identity = ended.get("containerID") or last.get("containerID")
        if not identity:
            raise LogRequestError(f"{who} is terminated")
        return _bare(identity)
    reason = (state.get("waiting") or {}).get("reason", "")
    explained = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
    raise LogRequestError(f"{who} is waiting to start: {explained.get(reason, reason)}")


def _is_there(path: Path) -> bool:
    """Whether there is a log to read: a file, not a link that a pod has put in its place."""
    try:
        open_log(path).close()
    except OSError:
        return False
    return True


def _bare(identity: str) -> str:
    return identity.rpartition("//")[2]


class ContainerLogs:
    def __init__(self, runtime: RuntimeService, statuses: Statuses, clock: Clock) -> None:
        self._runtime = runtime
        self._statuses = statuses
        self._clock = clock

    async def answer(self, pod: Pod, container: str, query: Mapping[str, Sequence[str]]) -> Response:
        """The log of a container as a stream; 400, 404 or 422 in plain text if it cannot be read."""
        try:
            options, previous = options_of(query, self._clock.now())
        except LogRequestError as error:
            return answers.plain(422 if "Invalid" in str(error) else 400, str(error))
        if pods.find_container(pod, container) is None:
            message = f"container {quote(container)} not found in pod {quote(pods.name_of(pod))}"
            return answers.plain(404, message)
        try:
            status = self._statuses.get(pods.uid_of(pod)) or pod.get("status") or {}
            run = choose_run(status, pod, container, previous=previous)
            path = Path((await self._runtime.container_status(run)).log_path)
        except LogRequestError as error:
            return answers.plain(400, str(error))
        except RuntimeFailure:
            return answers.plain(400, f"unable to retrieve container logs for containerd://{run}")
        if not _is_there(path):
            return answers.plain(400, f"failed to try resolving symlinks in path {quote(str(path))}: no such file")
        return Response(200, {"Content-Type": "text/plain"}, lambda sink: self._stream(sink, path, options, run))

    async def _stream(self, sink: Sink, path: Path, options: LogOptions, run: str) -> None:
        """Send a log until it ends or the client disconnects; with ``follow``, while the container runs."""
        alive = [options.follow]

        async def watch() -> None:
            while alive[0]:
                try:
                    alive[0] = (await self._runtime.container_status(run)).state is ContainerState.RUNNING
                except RuntimeFailure:
                    alive[0] = False
                await self._clock.sleep(_CHECK_RUNNING)

        reading = asyncio.ensure_future(
            read_log(path, options, sink.write, self._clock, lambda: alive[0], drain=sink.drain)
        )
        watching = asyncio.ensure_future(watch()) if options.follow else None
        gone = asyncio.ensure_future(sink.wait_closed())
        try:
            await asyncio.wait((reading, gone), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            tasks = [task for task in (reading, watching, gone) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
