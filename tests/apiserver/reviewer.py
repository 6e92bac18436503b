"""A server of reviews on a thread of its own, its kubeconfig, and an API server on real time that asks it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.apiserver.apiworld import ADMIN, World
from tiphys.apiserver.config import Config
from tiphys.apiserver.server import APIServer
from tiphys.runtime.clock import SystemClock
from tiphys.store.memory import MemoryBackend

Object = dict[str, Any]


class Reviewer(ThreadingHTTPServer):
    """``answer`` makes the status of the review, or the code to fail with; ``asked`` are the reviews it was sent."""

    answer: Callable[[Object], Object | int]
    asked: list[Object]

    def kubeconfig(self, folder: Path, name: str = "kubeconfig") -> Path:
        path = folder / name
        path.write_text(
            f"""
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{self.server_port}/review"}}}}]
users: [{{name: u, user: {{token: secret}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
current-context: c
"""
        )
        return path


class _Handler(BaseHTTPRequestHandler):
    server: Reviewer

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert (self.path, self.headers["Authorization"]) == ("/review", "Bearer secret")
        self.server.asked.append(review)
        status = self.server.answer(review)
        code, body = (
            (status, b"") if isinstance(status, int) else (200, json.dumps({**review, "status": status}).encode())
        )
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def reviewing(answer: Callable[[Object], Object | int]) -> Iterator[Reviewer]:
    server = Reviewer(("127.0.0.1", 0), _Handler)
    server.answer, server.asked = answer, []
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class RealWorld(World):
    """On real time, for servers that are asked over sockets."""

    def __init__(self, config: Config) -> None:
        clock = SystemClock()
        self.backend = MemoryBackend(clock)
        self.server = APIServer(config, self.backend, clock)
        self.admin = self.client_of(*ADMIN)

    async def settle(self) -> None:
        await asyncio.sleep(0.01)


def run_real(work: Callable[[World], Awaitable[None]], config: Config) -> None:
    async def main() -> None:
        async with RealWorld(config).running() as world:
            await work(world)

    asyncio.run(main())
