"""exec, attach, port-forward: the runtime serves them; the kubelet joins the caller's connection to the runtime's.

Source: https://github.com/kubernetes/cri-api
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from tiphys.kubelet.runtime.service import RuntimeFailure, RuntimeService
from tiphys.kubelet.server import answers
from tiphys.wire.client import SocketTransport
from tiphys.wire.http import Request, Response
from tiphys.wire.upgrade import forward_upgrade, is_upgrade, upgrade_headers

_TRUE = ("1", "true", "True", "TRUE", "t", "T")


def _flag(query: Mapping[str, Sequence[str]], *names: str) -> bool:
    return any((query.get(name) or [""])[0] in _TRUE for name in names)


class Streaming:
    def __init__(self, runtime: RuntimeService) -> None:
        self._runtime = runtime

    async def execute(self, request: Request, container_id: str) -> Response:
        query = request.parameters()
        command = query.get("command") or []
        streams = self._streams(query)
        if not any((streams["stdin"], streams["stdout"], streams["stderr"])):
            return answers.text(400, "you must specify at least 1 of stdin, stdout, stderr")
        try:
            url = await self._runtime.exec_url(container_id, command, **streams)
        except RuntimeFailure as error:
            return answers.plain(500, error.raw)
        return await self._join(request, url)

    async def attach(self, request: Request, container_id: str, *, tty: bool) -> Response:
        streams = self._streams(request.parameters())
        if not any((streams["stdin"], streams["stdout"], streams["stderr"])):
            return answers.text(400, "you must specify at least 1 of stdin, stdout, stderr")
        # Whether there is a terminal was settled when the container was made; the caller cannot change it.
        streams |= {"tty": tty, "stderr": streams["stderr"] and not tty}
        try:
            url = await self._runtime.attach_url(container_id, **streams)
        except RuntimeFailure as error:
            return answers.plain(500, error.raw)
        return await self._join(request, url)

    def _streams(self, query: Mapping[str, Sequence[str]]) -> dict[str, bool]:
        tty = _flag(query, "tty")
        return {
            "tty": tty,
            "stdin": _flag(query, "input", "stdin"),
            "stdout": _flag(query, "output", "stdout"),
            # With a terminal, what the container writes to either stream comes out of one.
            "stderr": _flag(query, "error", "stderr") and not tty,
        }

    async def forward_ports(self, request: Request, sandbox_id: str) -> Response:
        ports = [int(port) for text in request.parameters().get("port") or [] for port in text.split(",") if port]
        try:
            url = await self._runtime.port_forward_url(sandbox_id, ports)
        except RuntimeFailure as error:
            return answers.plain(500, error.raw)
        return await self._join(request, url)

    async def _join(self, request: Request, url: str) -> Response:
        if not is_upgrade(request):
            return answers.text(400, "Upgrade request required")
        target = urlsplit(url)
        assert target.hostname is not None
        headers = upgrade_headers(request.headers)
        headers["host"] = target.netloc
        headers.pop("authorization", None)  # the runtime needs none, and must not see the caller's
        onward = replace(request, path=target.path, query=target.query, headers=headers, body=b"")
        transport = SocketTransport(target.hostname, target.port or 80, max_idle=0)
        try:
            return await forward_upgrade(onward, transport)
        except (ConnectionError, TimeoutError) as error:
            return answers.plain(500, f"error dialing the container runtime: {error}")
