"""Commands of ``tiphys etcdctl`` that need what came before them: leases, snapshots, watches, checks, and members.

Where Debian's etcdctl can do the same, what it prints is what is expected.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.store.etcds import HAVE_ETCD, free_ports, real_etcd
from tests.store.players import Player, normal, ours, real
from tests.store.tiphys_etcd import tiphys_etcd
from tiphys.store.backend import StoreError
from tiphys.store.etcdchannel import Channels
from tiphys.store.etcdctl import check, main
from tiphys.store.etcdpb import pb

pytestmark = [pytest.mark.etcd, pytest.mark.skipif(not HAVE_ETCD, reason="etcd is not installed")]
FORMATS = ("simple", "json", "fields", "table")


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real_etcd(tmp_path_factory.mktemp("etcd")) as (member,):
        yield member.endpoint


@pytest.fixture(scope="module")
def tiphys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with tiphys_etcd(tmp_path_factory.mktemp("tiphys") / "data", free_ports(1)[0]) as endpoint:
        yield endpoint


def said(play: Player, endpoint: str, *words: str) -> str:
    """Output and errors, without what belongs to a moment."""
    status, out, err = play(list(words), "", endpoint)
    errors = [line for line in err.splitlines() if line.startswith("Error:")]
    text = re.sub(r'"?(revision|Revision)"? ?: ?\d+', r"\1", out)
    return f"{status != 0} {normal(text)} {normal(' '.join(errors[:1]))}"


def lease_session(play: Player, endpoint: str, form: str) -> list[str]:
    granted = play(["lease", "grant", "500"], "", endpoint)[1]
    id = granted.split()[1]
    steps = (
        ("put", f"leased-{form}", "v", f"--lease={id}"),
        ("lease", "timetolive", id),
        ("lease", "timetolive", id, "--keys"),
        ("lease", "keep-alive", "--once", id),
        ("lease", "list"),
        ("lease", "revoke", id),
        ("lease", "keep-alive", "--once", id),
        ("get", f"leased-{form}"),
    )
    answers = [said(play, endpoint, *step, "-w", form) for step in steps]
    return [re.sub(r"\d{15,}", "ID", re.sub(r'("?(?:ttl|TTL)"?) ?: ?(?:49\d|500)|\((?:49\d|500)', "TTL", answer))
            for answer in answers]  # fmt: skip


@pytest.mark.parametrize("form", ["simple", "json", "fields"])
def test_a_lease_from_its_grant_to_its_end(etcd: str, form: str) -> None:
    assert lease_session(ours, etcd, form) == lease_session(real, etcd, form)


@pytest.mark.parametrize("form", ["simple", "json", "table"])  # Debian's etcdctl panics at fields
def test_alarms(etcd: str, form: str) -> None:
    for words in (("alarm", "list"), ("alarm", "disarm")):
        assert said(ours, etcd, *words, "-w", form) == said(real, etcd, *words, "-w", form)


@pytest.mark.parametrize("form", FORMATS)
def test_snapshots(etcd: str, tmp_path: Path, form: str) -> None:
    """One that we save is read by Debian's etcdctl, and is restored into a store of our own."""
    file = tmp_path / "snapshot.db"
    assert ours(["put", "kept", "1"], "", etcd)[0] == 0
    assert ours(["snapshot", "save", str(file)], "", etcd)[1] == f"Snapshot saved at {file}\n"
    assert said(ours, etcd, "snapshot", "status", str(file), "-w", form) == said(
        real, etcd, "snapshot", "status", str(file), "-w", form
    )
    status, out, _ = ours(["snapshot", "restore", str(file), f"--data-dir={tmp_path / 'data'}"], "", etcd)
    assert status == 0, out
    with tiphys_etcd(tmp_path / "data", free_ports(1)[0]) as endpoint:
        assert real(["get", "kept"], "", endpoint)[1] == "kept\n1\n"


def test_a_restored_store_that_continues_later_has_clients_list_again(etcd: str, tmp_path: Path) -> None:
    """``--bump-revision``, as etcd's runbook for clusters with watch caches has it."""
    file, data = tmp_path / "snapshot.db", tmp_path / "data"
    for value in ("1", "2"):
        ours(["put", "kept", value], "", etcd)
    ours(["put", "gone", "1"], "", etcd)
    ours(["del", "gone"], "", etcd)
    assert ours(["snapshot", "save", str(file)], "", etcd)[0] == 0
    revision = json.loads(ours(["snapshot", "status", str(file), "-w", "json"], "", etcd)[1])["revision"]
    words = ["snapshot", "restore", str(file), f"--data-dir={data}"]
    bumped = ["--bump-revision=1000000", "--mark-compacted"]
    for wrong in (bumped[:1], bumped[1:], ["--bump-revision=-1", "--mark-compacted"]):
        status, _, err = ours([*words, *wrong], "", etcd)
        assert (status, err.startswith("Error: ")) == (1, True)
        assert not data.exists()
    assert ours([*words, *bumped], "", etcd)[0] == 0
    for _ in range(2):  # also after a restart
        with tiphys_etcd(data, free_ports(1)[0]) as endpoint:
            assert real(["get", "kept"], "", endpoint)[1] == "kept\n2\n"
            assert real(["get", "gone"], "", endpoint)[1] == ""
            status, _, err = real(["get", "kept", f"--rev={revision}"], "", endpoint)
            assert status != 0
            assert "required revision has been compacted" in err
            shown = json.loads(real(["get", "kept", "-w", "json"], "", endpoint)[1])
            assert shown["header"]["revision"] == revision + 1_000_000
            assert shown["kvs"][0]["mod_revision"] <= revision
    with tiphys_etcd(data, free_ports(1)[0]) as endpoint:
        real(["put", "kept", "3"], "", endpoint)
        shown = json.loads(real(["get", "kept", "-w", "json"], "", endpoint)[1])
        assert shown["kvs"][0]["mod_revision"] == revision + 1_000_001


def test_snapshots_that_cannot_be(etcd: str, tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(b"no database")
    for words in (
        ["snapshot", "status", str(tmp_path / "broken")],
        ["snapshot", "save", str(tmp_path / "x"), f"--endpoints={etcd},{etcd}"],
        ["snapshot", "restore", str(tmp_path / "broken"), "--initial-cluster=a=http://1,b=http://2"],
    ):
        status, _, err = ours(words, "", etcd)
        assert status == 1
        assert err.startswith("Error: ")
        assert not (tmp_path / "x").exists()


class Watching:
    """A client that watches in a process of its own."""

    def __init__(self, program: Sequence[str], endpoint: str, words: Sequence[str], output: Path) -> None:
        environment = {name: text for name, text in os.environ.items() if not name.startswith("ETCD")}
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [*program, f"--endpoints={endpoint}", "watch", *words],
                env={**environment, "ETCDCTL_API": "3"},
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                # Whoever runs the tests in the background has them ignore interrupts.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def ask(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def until(self, text: str) -> None:
        deadline = time.monotonic() + 60
        while text not in self.output.read_text():
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)

    def stop(self) -> str:
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGINT)
        self.process.stdin.close()
        self.process.wait(30)
        return self.output.read_text()


OURS = (sys.executable, "-c", "import sys; from tiphys.store.etcdctl import main; sys.exit(main())")
WATCHES: dict[str, tuple[str, ...]] = {
    "simple": ("w", "--rev=1", "--prev-kv"),
    "json": ("w", "--rev=1", "-w", "json"),
    "fields": ("w", "--prefix", "--rev=1", "-w", "fields"),
    "command": ("w", "x", "--rev=1", "--", "sh", "-c", "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"),
}


def events_in(text: str, name: str) -> list[str]:
    """What a client printed of events, which come in one answer or in several."""
    if name == "json":
        return [json.dumps(event) for line in text.splitlines() if line for event in json.loads(line)["Events"]]
    if name == "fields":
        return [line for line in text.splitlines() if line.startswith(('"Type"', '"Key"', '"Value"', '"ModRevision"'))]
    lines = text.splitlines()
    return sorted(lines) if name == "command" else lines


@pytest.mark.parametrize("name", WATCHES)
def test_watches(name: str, tmp_path: Path) -> None:
    with real_etcd(tmp_path / "etcd") as (member,):
        clients = [
            Watching(program, member.endpoint, WATCHES[name], tmp_path / f"{number}")
            for number, program in enumerate((("etcdctl",), OURS))
        ]
        for words in (["put", "w", "1"], ["put", "w", "2"], ["del", "w"], ["put", "w", "last"]):
            assert ours(words, "", member.endpoint)[0] == 0
        for client in clients:
            client.until({"json": "bGFzdA", "command": '"last"'}.get(name, "last"))
        expected, printed = (client.stop() for client in clients)
    assert events_in(expected, name) == events_in(printed, name)


def test_a_watch_that_is_asked_for_in_lines(etcd: str, tmp_path: Path) -> None:
    client = Watching(OURS, etcd, ["-i"], tmp_path / "output")
    client.ask("nonsense")
    client.until("Invalid command nonsense")
    client.ask("watch interactive")
    client.ask("progress")
    client.until("progress notify: ")
    assert ours(["put", "interactive", "1"], "", etcd)[0] == 0
    client.until("PUT\ninteractive\n1\n")
    client.stop()


def test_a_watch_of_what_is_compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tiphys_etcd(tmp_path / "data", free_ports(1)[0]) as endpoint:
        for number in range(3):
            ours(["put", "a", str(number)], "", endpoint)
        assert ours(["compaction", "3"], "", endpoint)[0] == 0
        status, _, err = ours(["watch", "a", "--rev=1"], "", endpoint)
        monkeypatch.setenv("ETCDCTL_WATCH_KEY", "a")
        monkeypatch.setenv("ETCDCTL_WATCH_RANGE_END", "b")
        assert ours(["watch", "--rev=1"], "", endpoint)[0] == status
    assert status == 1
    assert "required revision has been compacted" in err


def test_a_lease_that_has_ended_is_kept_alive_no_more(etcd: str) -> None:
    expected = "lease 0000000000000099 expired or revoked.\n"
    assert (
        ours(["lease", "keep-alive", "99"], "", etcd)[1] == real(["lease", "keep-alive", "99"], "", etcd)[1] == expected
    )


def test_flags_come_from_the_environment(etcd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCDCTL_WRITE_OUT", "json")
    assert ours(["get", "none"], "", etcd)[1].startswith("{")
    monkeypatch.setenv("ETCDCTL_WRITE_OUT", "yaml")
    assert "unsupported output format" in ours(["get", "none"], "", etcd)[2]


@pytest.mark.parametrize("words", [["watch"], ["watch", "a", "b", "--prefix"], ["watch", "a", "b", "c"]])
def test_watches_that_make_no_sense(etcd: str, words: list[str]) -> None:
    status, _, err = ours(words, "", etcd)
    assert status != 0
    assert err.startswith("Error: ")


def test_the_check_of_performance(etcd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "SECONDS", 0.3)
    monkeypatch.setitem(check.LOADS, "s", check.Load(20, 2))
    monkeypatch.setattr(check, "SLOWEST", 60.0)
    monkeypatch.setattr(check, "DEVIATION", 60.0)
    words = ["check", "perf", "--load=s", "--prefix=/check/", "--auto-compact", "--auto-defrag"]
    _, out, _ = ours(words, "", etcd)
    assert "writes/s" in out
    assert out.splitlines()[-1] in ("PASS", "FAIL")
    assert ours(["get", "/check/", "--prefix"], "", etcd)[1] == ""
    assert ours(["put", "/check/mine", "1"], "", etcd)[0] == 0
    assert "has keys" in ours(words, "", etcd)[2]
    assert "unknown load" in ours(["check", "perf", "--load=huge"], "", etcd)[2]


def test_defragmenting_a_store_that_is_not_running(tmp_path: Path) -> None:
    with tiphys_etcd(tmp_path / "data", free_ports(1)[0]) as endpoint:
        assert ours(["put", "a", "1"], "", endpoint)[0] == 0
        assert "Finished defragmenting" in ours(["defrag"], "", endpoint)[1]
    assert ours(["defrag", f"--data-dir={tmp_path / 'data'}"], "", "127.0.0.1:1")[0] == 0
    status, _, err = ours(["defrag", f"--data-dir={tmp_path / 'nope'}"], "", "127.0.0.1:1")
    assert status == 1
    assert "no such directory" in err


@pytest.mark.parametrize("words", [["endpoint", "status"], ["endpoint", "hashkv"], ["endpoint", "health"], ["defrag"]])
def test_a_member_that_does_not_answer(words: list[str]) -> None:
    port = free_ports(1)[0]
    status, _, err = ours([*words, "--dial-timeout=200ms", "--command-timeout=500ms"], "", f"127.0.0.1:{port}")
    assert status == 1
    assert f"127.0.0.1:{port}" in err


MEMBERS = (
    ["member", "remove", "1"],
    ["member", "promote", "1"],
)


@pytest.mark.parametrize("words", MEMBERS, ids=" ".join)
def test_members_that_do_not_exist(etcd: str, tiphys: str, words: list[str]) -> None:
    assert said(real, tiphys, *words) == said(real, etcd, *words)


@pytest.mark.parametrize(
    "words",
    [
        ["member", "add", "two", "--peer-urls=http://127.0.0.1:5"],
        ["member", "update", "1", "--peer-urls=http://127.0.0.1:5"],
        *(["user", "add", "u:p"], ["role", "add", "r"], ["auth", "enable"]),
        *(["user", "get", "u"], ["user", "delete", "u"], ["role", "get", "r"], ["role", "delete", "r"]),
    ],
    ids=" ".join,
)
def test_what_the_embedded_store_refuses(tiphys: str, words: list[str]) -> None:
    """By a message, to etcd's own client."""
    status, _, err = real(words, "", tiphys)
    assert status != 0
    assert "Error: " in err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    assert "\tlease grant\tCreates leases" in capsys.readouterr().out
    assert "--prev-kv" in ours(["put", "--help"], "", "")[1]
    assert ours(["version"], "", "")[1].startswith("etcdctl version: 3.")
    status, _, err = ours(["nonsense"], "", "")
    assert status != 0
    assert err.startswith("Error: ")


def test_version_2_of_the_api_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCDCTL_API", "2")
    status, _, err = ours(["get", "a"], "", "127.0.0.1:1")
    assert (status, err) == (1, "Error: ETCDCTL_API=2 is not supported; only version 3 of the API is\n")


@pytest.mark.parametrize(
    "line",
    [
        "get a b --prefix",
        "get a --prefix --from-key",
        "get a --order=UP",
        "get a --sort-by=SIZE",
        "get a --consistency=x",
        "put a b --ignore-value",
        "lease grant soon",
        "get a --limit",
        "get a --limit=many",
        "get a --command-timeout=soon",
        "lease timetolive zz",
        "get a -w yaml",
        "del a b c",
    ],
)
def test_words_that_do_not_fit_together(etcd: str, line: str) -> None:
    theirs, mine = real(line.split(), "", etcd), ours(line.split(), "", etcd)
    assert (mine[0] != 0, theirs[0] != 0) == (True, True)
    assert mine[2].startswith("Error: ")


async def asked(endpoint: str, service: str, method: str, request: Any) -> Any:
    channels = Channels([endpoint], None, 5.0)
    try:
        return await channels.unary(channels.method(service, method), request, repeatable=False)
    finally:
        await channels.close()


def test_what_an_operator_asks_a_member(tmp_path: Path) -> None:
    with tiphys_etcd(tmp_path / "data", free_ports(1)[0]) as endpoint:

        def ask(method: str, request: Any) -> Any:
            return asyncio.run(asked(endpoint, "Maintenance", method, request))

        for number in range(4):
            assert ours(["put", "a", str(number)], "", endpoint)[0] == 0
        before = ask("Hash", pb.HashRequest()).hash
        assert ask("Hash", pb.HashRequest()).hash == before
        assert ours(["put", "b", "1"], "", endpoint)[0] == 0
        assert ask("Hash", pb.HashRequest()).hash != before
        assert ours(["compaction", "4"], "", endpoint)[0] == 0
        for revision in (1, 1000):
            with pytest.raises(StoreError):
                ask("HashKV", pb.HashKVRequest(revision=revision))
        with pytest.raises(StoreError, match="bad leader transferee"):
            ask("MoveLeader", pb.MoveLeaderRequest(targetID=1))
        with pytest.raises(StoreError, match="cannot be downgraded"):
            ask("Downgrade", pb.DowngradeRequest())
        with pytest.raises(StoreError, match="CORRUPT"):
            ask("Alarm", pb.AlarmRequest(action=1, alarm=2))


def test_an_alarm_that_is_raised_by_hand(tmp_path: Path) -> None:
    """Writes are refused until it is disarmed, and both clients say so."""
    with tiphys_etcd(tmp_path / "data", free_ports(1)[0]) as endpoint:
        raised = asyncio.run(asked(endpoint, "Maintenance", "Alarm", pb.AlarmRequest(action=1, alarm=1)))
        assert [alarm.alarm for alarm in raised.alarms] == [1]
        assert "database space exceeded" in real(["put", "a", "1"], "", endpoint)[2]
        for play in (real, ours):
            assert re.fullmatch(r"memberID:\d+ alarm:NOSPACE \n", play(["alarm", "list"], "", endpoint)[1])
        assert "Active Alarm(s): NOSPACE" in ours(["endpoint", "health"], "", endpoint)[2]
        assert "alarm:NOSPACE" in ours(["alarm", "disarm"], "", endpoint)[1]
        assert ours(["alarm", "list"], "", endpoint)[1] == ""
        assert real(["put", "a", "1"], "", endpoint)[0] == 0
