"""One scripted session, played by Debian's etcdctl and by ``tiphys etcdctl`` against real etcd and ``tiphys etcd``.

What the four print must be the same, but for what is a server's own (ids, versions, sizes) or changes from run to run.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.store.etcds import HAVE_ETCD, free_ports, real_etcd
from tests.store.players import Player, normal, ours, real
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


def _answers(play: Player, endpoint: str) -> list[str]:
    found = []
    for form, (line, stdin) in itertools.product(FORMATS, SCRIPT):
        status, out, err = play([*line.split(), "-w", form], stdin, endpoint)
        told = f"{form} {line}: {status != 0}"
        if line in ("endpoint status", "endpoint hashkv"):
            found.append(f"{form} {line}")
            continue
        errors = [part for part in err.splitlines() if part.startswith("Error:")]
        found.append(f"{told}\n{normal(out)}{normal(' '.join(errors[:1]))}")
    return found


def test_one_session_four_ways(tmp_path: Path) -> None:
    answers: dict[str, list[str]] = {}
    peer = "--initial-advertise-peer-urls=http://127.0.0.1:1"
    for client, play in (("etcdctl", real), ("tiphys", ours)):
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
    status, _, err = ours(words, "", "127.0.0.1:1")
    assert status != 0
    assert "not supported by tiphys etcdctl" in err
