"""Events posted to a server, by way of a kubeconfig: retried while it is busy, lost if it refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tiphys.apiserver.audit.webhook import WebhookBackend
from tiphys.runtime.clock import SystemClock

EVENT = {"auditID": "1", "level": "Metadata"}


class Collector(ThreadingHTTPServer):
    """Answers with the codes it is given, the last one for ever, and keeps what it was sent."""

    codes: list[int]
    got: list[tuple[str, str, Any]]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.path, self.headers["Authorization"], body))
        codes = self.server.codes
        self.send_response(codes.pop(0) if len(codes) > 1 else codes[0])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector(("127.0.0.1", 0), _Handler)
    server.codes, server.got = [200], []
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def send(collector: Collector, folder: Path) -> tuple[bool, list[tuple[str, int]]]:
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        f"""
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{collector.server_port}/events/here"}}}}]
users: [{{name: u, user: {{token: secret}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
current-context: c
"""
    )
    failures: list[tuple[str, int]] = []

    async def main() -> bool:
        backend = WebhookBackend(kubeconfig, 0.001, SystemClock(), lambda name, count: failures.append((name, count)))
        try:
            return await backend.process([EVENT, EVENT])
        finally:
            await backend.close()

    return asyncio.run(main()), failures


def test_a_batch_is_a_list_of_events(collector: Collector, tmp_path: Path) -> None:
    assert send(collector, tmp_path) == (True, [])
    body = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": [EVENT, EVENT]}
    assert collector.got == [("/events/here", "Bearer secret", body)]


def test_a_busy_server_is_tried_again(collector: Collector, tmp_path: Path) -> None:
    collector.codes = [503, 429, 200]
    assert send(collector, tmp_path) == (True, [])
    assert len(collector.got) == 3


@pytest.mark.parametrize("code", [403, 500])
def test_what_cannot_be_sent_is_counted(collector: Collector, tmp_path: Path, code: int) -> None:
    collector.codes = [code]
    assert send(collector, tmp_path) == (False, [("webhook", 2)])
    assert len(collector.got) == 5
