"""What etcdctl's formats print of messages that a healthy member alone seldom sends."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from tiphys.store.etcdctl.flags import UsageError
from tiphys.store.etcdctl.gotext import size, unquote
from tiphys.store.etcdctl.output import FORMATS, Output
from tiphys.store.etcdpb import pb

HEADER = pb.ResponseHeader(cluster_id=1, member_id=2, revision=3, raft_term=4)
HEAD = ['"ClusterID" : 1', '"MemberID" : 2', '"Revision" : 3', '"RaftTerm" : 4']
COMMANDS = [
    name
    for name, function in vars(Output).items()
    if inspect.isfunction(function) and not name.startswith("_") and name not in ("say", "raw")
]


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_table_has_no_rows_for_is_refused_by_its_name(name: str) -> None:
    table = FORMATS["table"]
    if name in vars(table):
        return
    function = getattr(table(), name)
    words: dict[str, Any] = dict.fromkeys(inspect.signature(function).parameters)
    with pytest.raises(UsageError, match=r"^table not supported as output format$"):
        function(**words)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def changed() -> Any:
    before = pb.KeyValue(key=b"k", value=b"old", create_revision=1, mod_revision=1, version=1)
    after = pb.KeyValue(key=b"k", value=b"\xff", create_revision=1, mod_revision=3, version=2, lease=9)
    return pb.WatchResponse(header=HEADER, events=[pb.Event(type=0, kv=after, prev_kv=before)])


def test_a_change_with_what_was_before_by_fields(capsys: pytest.CaptureFixture[str]) -> None:
    FORMATS["fields"]().watch(changed())
    old = ['"PrevKey" : "k"', '"PrevCreateRevision" : 1', '"PrevModRevision" : 1', '"PrevVersion" : 1']
    new = ['"Key" : "k"', '"CreateRevision" : 1', '"ModRevision" : 3', '"Version" : 2', r'"Value" : "\xff"']
    assert lines(capsys) == [
        *HEAD, '"Type" : PUT', *old, '"PrevValue" : "old"', '"PrevLease" : 0', *new, '"Lease" : 9'
    ]  # fmt: skip


def test_a_change_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    FORMATS["json"]().watch(changed())
    message = json.loads(capsys.readouterr().out)
    assert message["Header"] == {"cluster_id": 1, "member_id": 2, "revision": 3, "raft_term": 4}
    assert [message[name] for name in ("CompactRevision", "Canceled", "Created")] == [0, False, False]
    assert message["Events"][0]["prev_kv"]["value"] == "b2xk"


def test_leases_and_alarms_by_fields(capsys: pytest.CaptureFixture[str]) -> None:
    fields = FORMATS["fields"]()
    fields.lease_list(pb.LeaseLeasesResponse(header=HEADER, leases=[pb.LeaseStatus(ID=5), pb.LeaseStatus(ID=6)]))
    assert lines(capsys) == [*HEAD, '"ID" : 5', '"ID" : 6']
    fields.alarms(pb.AlarmResponse(header=HEADER, alarms=[pb.AlarmMember(memberID=7, alarm=1)]))
    assert lines(capsys) == [*HEAD, '"MemberID" : 7', '"AlarmType" : NOSPACE', ""]
    fields.revoke(5, pb.LeaseRevokeResponse(header=HEADER))
    assert lines(capsys) == HEAD


def test_a_value_in_hexadecimal(capfd: pytest.CaptureFixture[str]) -> None:
    answer = pb.RangeResponse(header=HEADER, kvs=[pb.KeyValue(key=b"k", value=b"\x00\xff")])
    FORMATS["simple"](hex=True).get(answer)
    assert capfd.readouterr().out.splitlines() == [r"\x6b", r"\x00\xff"]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("plain", "plain"),
        ('"a\\tb"', "a\tb"),
        (r'"\x41"', "A"),
        ("'single'", "single"),
        ("`raw\\t`", "raw\\t"),
        ('"', '"'),
    ],
)
def test_words_in_quotes(text: str, read: str) -> None:
    assert unquote(text) == read


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (9, "9 B"), (10, "10 B"), (999, "999 B"), (1000, "1.0 kB"), (20_480, "20 kB"), (2**31, "2.1 GB")],
)
def test_sizes_as_people_read_them(count: int, text: str) -> None:
    assert size(count) == text
