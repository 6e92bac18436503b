"""``tiphys etcd`` as a process of its own."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def start(directory: Path, port: int, *flags: str, scheme: str = "http") -> subprocess.Popen[bytes]:
    url = f"{scheme}://127.0.0.1:{port}"
    program = "import sys; from tiphys.store.command import main; sys.exit(main())"
    return subprocess.Popen(
        [
            *(sys.executable, "-c", program, f"--data-dir={directory}", "--log-level=error"),
            *(f"--listen-client-urls={url}", f"--advertise-client-urls={url}", *flags),
        ],
        env={key: value for key, value in os.environ.items() if not key.startswith("ETCD")},
        stderr=subprocess.PIPE,
    )


def page(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def wait_until_healthy(process: subprocess.Popen[bytes], port: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if b'"true"' in page(port, "/health"):
                return
        except OSError:
            if process.poll() is not None:
                assert process.stderr is not None
                raise RuntimeError(process.stderr.read().decode()) from None
        if time.monotonic() > deadline:
            raise TimeoutError("tiphys etcd does not become healthy")
        time.sleep(0.02)


@contextmanager
def tiphys_etcd(directory: Path, port: int, *flags: str) -> Iterator[str]:
    """Its endpoint, ready to serve."""
    process = start(directory, port, *flags)
    try:
        wait_until_healthy(process, port)
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert process.stderr is not None
        process.stderr.close()
