"""A command of etcdctl's played by Debian's etcdctl and by ``tiphys etcdctl``: status, output, errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Player = Callable[[list[str], str, str], tuple[int, str, str]]


def real(words: list[str], stdin: str, endpoint: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["etcdctl", *words],
        input=stdin.encode(),
        capture_output=True,
        timeout=20,
        env={"PATH": os.environ["PATH"], "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": endpoint},
    )
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


@contextmanager
def _captured(stdin: str) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Standard input from a text; standard output and error into lists."""
    saved = [os.dup(number) for number in range(3)]
    feed, feeder = os.pipe()
    pipes = [os.pipe(), os.pipe()]
    os.write(feeder, stdin.encode())
    os.close(feeder)
    results: tuple[list[bytes], list[bytes]] = ([], [])
    old = sys.stdin, sys.stdout, sys.stderr

    def drain(number: int) -> None:
        with os.fdopen(pipes[number][0], "rb") as reader:
            results[number].append(reader.read())

    drains = [threading.Thread(target=drain, args=(number,)) for number in range(2)]
    for thread in drains:
        thread.start()
    os.dup2(feed, 0)
    os.dup2(pipes[0][1], 1)
    os.dup2(pipes[1][1], 2)
    for _, writer in pipes:
        os.close(writer)
    sys.stdin = os.fdopen(os.dup(0), "r")
    sys.stdout = os.fdopen(os.dup(1), "w")
    sys.stderr = os.fdopen(os.dup(2), "w")
    try:
        yield results
    finally:
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            stream.close()
        sys.stdin, sys.stdout, sys.stderr = old
        for number, descriptor in enumerate(saved):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(feed)
        for thread in drains:
            thread.join()


def ours(words: list[str], stdin: str, endpoint: str) -> tuple[int, str, str]:
    from tiphys.store.etcdctl import main

    with _captured(stdin) as (out, err):
        status = main([f"--endpoints={endpoint}", *words])
    return status, out[0].decode(errors="replace"), err[0].decode(errors="replace")


def normal(text: str) -> str:
    """Without what belongs to a server or a moment."""
    text = re.sub(r'"?(cluster_id|member_id|raft_term|ClusterID|MemberID|RaftTerm|Leader)"? ?: ?\d+', r"\1", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "HOST", text)
    text = re.sub(r"\b\d+(\.\d+)?(ms|µs|s)\b", "TIME", text)
    text = re.sub(r'"(ID|leader)" ?: ?\d{8,}', r"\1", text)
    text = re.sub(r"\b[0-9a-f]{14,16}\b", "ID", text)
    return re.sub(r" +", " ", re.sub(r"-{3,}", "---", text))
