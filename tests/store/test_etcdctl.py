"""One scripted session, played by Debian's etcdctl and by ``tiphys etcdctl`` against real etcd and ``tiphys etcd``.

What the four print must be the same, but for what is a server's own (ids, versions, sizes) or changes from run to run.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.store.etcds import HAVE_ETCD, free_ports, real_etcd
from tests.store.tiphys_etcd import tiphys_etcd

pytestmark = [pytest.mark.etcd, pytest.mark.skipif(not HAVE_ETCD, reason="etcd is not installed")]

TXN = 'mod("a") > "0"\nvalue("a") = "2"\n\nput k "some value"\nget k\ndel a --prev-kv\n\nput k w\n\n'
TXN_FAILS = 'create("a") != "0"\nversion("b") < "1"\n\nput k no\n\nput k w --prev-kv\nget --prefix k --keys-only\n\n'
SCRIPT: list[tuple[str, str]] = [
    ("put a 1", ""),
    ("put a 2 --prev-kv", ""),
    ("put from-stdin", "a value\nof two lines"),
    ("get a", ""),
    ("get from-stdin", ""),
    ("get a --print-value-only", ""),
    ("get none", ""),
    ("get a --rev 2", ""),
    ("put b x", ""),
    ("put c y", ""),
    ("get / --prefix --keys-only", ""),
    ("get a --prefix --keys-only", ""),
    ("get --from-key b", ""),
    ("get a c", ""),
    ("get --limit 2 --order DESCEND --sort-by MODIFY a z", ""),
    ("get a --consistency=s --hex", ""),
    ("put b --ignore-value --prev-kv", ""),
    ("txn", TXN),
    ("txn", TXN_FAILS),
    ("del b --prev-kv", ""),
    ("del none", ""),
    ("del --prefix k", ""),
    ("lease timetolive 1", ""),
    ("lease revoke 1", ""),
    ("lease list", ""),
    ("compaction 3", ""),
    ("compaction 3", ""),
    ("compaction 1000", ""),
    ("get a --rev 2", ""),
    ("defrag", ""),
    ("endpoint health", ""),
    ("endpoint status", ""),
    ("endpoint hashkv", ""),
    ("member list", ""),
    ("put", ""),
    ("get", ""),
    ("put x y --lease=99", ""),
    ("lease grant 9000000001", ""),
]
FORMATS = ("simple", "json", "fields", "table")

Player = Callable[[list[str], str, str], tuple[int, str, str]]


def _real(words: list[str], stdin: str, endpoint: str) -> tuple[int, str, str]:
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


def _ours(words: list[str], stdin: str, endpoint: str) -> tuple[int, str, str]:
    from tiphys.store.etcdctl import main

    with _captured(stdin) as (out, err):
        status = main([f"--endpoints={endpoint}", *words])
    return status, out[0].decode(errors="replace"), err[0].decode(errors="replace")


def _normal(text: str) -> str:
    """Without what belongs to a server or a moment."""
    text = re.sub(r'"?(cluster_id|member_id|raft_term|ClusterID|MemberID|RaftTerm|Leader)"? ?: ?\d+', r"\1", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "HOST", text)
    text = re.sub(r"\b\d+(\.\d+)?(ms|µs|s)\b", "TIME", text)
    text = re.sub(r'"(ID|leader)" ?: ?\d{8,}', r"\1", text)
    text = re.sub(r"\b[0-9a-f]{14,16}\b", "ID", text)
    return re.sub(r" +", " ", re.sub(r"-{3,}", "---", text))


def _answers(play: Player, endpoint: str) -> list[str]:
    found = []
    for form, (line, stdin) in itertools.product(FORMATS, SCRIPT):
        status, out, err = play([*line.split(), "-w", form], stdin, endpoint)
        told = f"{form} {line}: {status != 0}"
        if line in ("endpoint status", "endpoint hashkv"):
            found.append(f"{form} {line}")
            continue
        errors = [part for part in err.splitlines() if part.startswith("Error:")]
        found.append(f"{told}\n{_normal(out)}{_normal(' '.join(errors[:1]))}")
    return found


def test_one_session_four_ways(tmp_path: Path) -> None:
    answers: dict[str, list[str]] = {}
    peer = "--initial-advertise-peer-urls=http://127.0.0.1:1"
    for client, play in (("etcdctl", _real), ("tiphys", _ours)):
        with real_etcd(tmp_path / f"{client}-etcd") as (member,):
            answers[f"{client} on etcd"] = _answers(play, member.endpoint)
        with tiphys_etcd(tmp_path / f"{client}-tiphys", free_ports(1)[0], "--name=m0", peer) as endpoint:
            answers[f"{client} on tiphys"] = _answers(play, endpoint)
    expected = answers.pop("etcdctl on etcd")
    for name, found in answers.items():
        assert [(w, g) for w, g in zip(expected, found, strict=True) if w != g] == [], name


@pytest.mark.parametrize(
    "words", [["user", "list"], ["get", "a", "--user=root"], ["get", "a", "--insecure-skip-tls-verify"]]
)
def test_what_is_not_supported_is_refused_by_name(words: list[str]) -> None:
    status, _, err = _ours(words, "", "127.0.0.1:1")
    assert status != 0
    assert "not supported by tiphys etcdctl" in err
