"""Names, times, int-or-string, owners, conditions, copies."""

from __future__ import annotations

import pytest

from tiphys.api.meta import conditions, copy, intorstring, names, owners, timestamps
from tiphys.api.meta.equality import equal
from tiphys.api.pods.conditions import is_ready, set_pod_condition


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (names.qualified_name, ["a", "a.b/c", "A_b-c.d"], ["", "a/b/c", "/a", "-a", "a" * 64, "A.b/c", "a/"]),
        (names.label_value, ["", "a", "A_b-c.d", "a" * 63], ["-", "a b", "a" * 64, "é"]),
        (names.dns1123_label, ["a", "0-9", "a" * 63], ["", "A", "a.b", "-a", "a" * 64]),
        (names.dns1123_subdomain, ["a.b", "a-b.c0"], ["", "a..b", "A", "a_b", "a" * 254]),
        (names.dns1035_label, ["a", "a-0"], ["0a", "a.", ""]),
        (names.wildcard_dns1123_subdomain, ["*.a.b"], ["*", "*.*.a", "a.b"]),
        (names.port_name, ["http", "a-1"], ["", "123", "a--b", "-a", "A", "a" * 16]),
        (names.config_map_key, ["a.b", "_"], ["", ".", "..", "..a", "a/b", "a" * 254]),
        (names.percent, ["5%"], ["5", "%", "-5%"]),
        (names.http_header_name, ["X-A"], ["", "X A"]),
        (names.c_identifier, ["_a1"], ["1a", "", "a-b"]),
        (names.path_segment_name, ["a", ""], [".", "..", "a/b", "a%b"]),
        (names.relaxed_env_var_name, ["a b", "!"], ["", "a=b", "é"]),
    ],
)
def test_names(check: object, good: list[str], bad: list[str]) -> None:
    for value in good:
        assert check(value) == [], value  # type: ignore[operator]
    for value in bad:
        assert check(value), value  # type: ignore[operator]


def test_name_messages() -> None:
    assert names.dns1123_label("a.b") == ["must not contain dots"]
    assert names.port_number(0) == ["must be between 1 and 65535, inclusive"]
    assert names.dns1123_subdomain("A") == [
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
        "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
        "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    ]
    assert names.for_prefix("web-") == "wea"


def test_lengths_count_bytes() -> None:
    assert names.byte_length("é") == 2


def test_times() -> None:
    assert timestamps.format_time(1.9) == "1970-01-01T00:00:01Z"
    year_999 = timestamps.parse_seconds("0999-12-31T23:59:59Z")
    assert timestamps.format_time(year_999) == "0999-12-31T23:59:59Z"
    assert timestamps.format_micro_time(year_999) == "0999-12-31T23:59:59.000000Z"
    assert timestamps.format_micro_time(1.5) == "1970-01-01T00:00:01.500000Z"
    assert timestamps.parse_seconds("1970-01-01T01:00:00+01:00") == 0
    assert timestamps.canonical_time("2020-01-01T00:00:00.9+00:00") == "2020-01-01T00:00:00Z"
    assert timestamps.canonical_micro_time("2020-01-01T02:00:00.123456+02:00") == "2020-01-01T00:00:00.123456Z"
    for text in ("", "2020-01-01", "2020-13-01T00:00:00Z", "2020-01-01T00:00:00", "9999-12-31T23:59:59-23:00"):
        with pytest.raises(timestamps.TimeError):
            timestamps.parse_time(text)


def test_int_or_string() -> None:
    assert intorstring.scaled_value(3, 10, round_up=True) == 3
    assert intorstring.scaled_value("25%", 10, round_up=True) == 3
    assert intorstring.scaled_value("25%", 10, round_up=False) == 2
    with pytest.raises(intorstring.ScaleError, match="string is not a percentage"):
        intorstring.scaled_value("x", 10, round_up=True)


def test_owners() -> None:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "r", "uid": "u"}}
    owned = {
        "metadata": {"ownerReferences": [{"uid": "v"}, owners.controller_reference(owner, "apps/v1", "ReplicaSet")]}
    }
    assert owners.controller_of(owned) == {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": "r",
        "uid": "u",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    assert owners.is_controlled_by(owned, owner)
    assert owners.controller_of({}) is None


def test_conditions_move_their_time_only_with_their_status() -> None:
    found: list[dict[str, object]] = []
    assert conditions.set_condition(found, {"type": "Ready", "status": "True", "reason": "a"}, "t1")
    assert conditions.set_condition(found, {"type": "Ready", "status": "True", "reason": "b"}, "t2")
    assert found == [{"type": "Ready", "status": "True", "reason": "b", "lastTransitionTime": "t1"}]
    assert not conditions.set_condition(found, {"type": "Ready", "status": "True", "reason": "b"}, "t3")
    assert conditions.set_condition(found, {"type": "Ready", "status": "False"}, "t4")
    assert conditions.is_condition(found, "Ready", "False")
    assert found[0]["lastTransitionTime"] == "t4"
    assert found[0]["reason"] == ""  # what the new one does not say is not kept


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"status": "True"}, {"status": "True", "observedGeneration": 2}, {"status": "True", "observedGeneration": 2}),
        ({"status": "True", "observedGeneration": 2}, {"status": "True"}, {"status": "True"}),
        ({"status": "True", "message": "m"}, {"status": "True"}, {"status": "True", "message": ""}),
        ({"status": "True"}, {"status": "True", "lastTransitionTime": "t9"}, {"status": "True"}),
        (
            {"status": "True"},
            {"status": "Unknown", "lastTransitionTime": "t9"},
            {"status": "Unknown", "lastTransitionTime": "t9"},
        ),
        (
            {"status": "True"},
            {"status": "False", "lastTransitionTime": ""},
            {"status": "False", "lastTransitionTime": "t2"},
        ),
    ],
)
def test_setting_a_condition(old: dict[str, object], new: dict[str, object], expected: dict[str, object]) -> None:
    found = [{"type": "Ready", "lastTransitionTime": "t1", **old}]
    changed = conditions.set_condition(found, {"type": "Ready", **new}, "t2")
    assert found == [{"type": "Ready", "lastTransitionTime": "t1", **expected}]
    assert changed is (expected != old)


@pytest.mark.parametrize(
    ("old", "since"),
    [
        (None, "now"),
        ({"status": "True", "lastTransitionTime": "t1"}, "t1"),
        ({"status": "True"}, "now"),
        ({"status": "True", "lastTransitionTime": None}, "now"),
        ({"status": "False", "lastTransitionTime": "t1"}, "now"),
    ],
)
def test_since_when_a_condition_has_its_status(old: dict[str, object] | None, since: str) -> None:
    assert conditions.transition_time(old, "True", "now") == since


def test_conditions_of_pods_are_whole_and_replace_each_other() -> None:
    status: dict[str, object] = {}
    set_pod_condition(status, {"type": "PodScheduled", "status": "True", "message": "m"}, "t1")
    set_pod_condition(status, {"type": "Ready", "status": "False", "reason": "r"}, "t1")
    set_pod_condition(status, {"type": "PodScheduled", "status": "True", "lastTransitionTime": "t9"}, "t2")
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": "t1"}
    ready = {"type": "Ready", "status": "False", "lastProbeTime": None, "lastTransitionTime": "t1", "reason": "r"}
    assert status == {"conditions": [scheduled, ready]}
    assert not is_ready({"status": status})
    set_pod_condition(status, {"type": "Ready", "status": "True"}, "t2")
    assert is_ready({"status": status})
    assert not is_ready({})


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ({}, {"a": None}, True),
        ({"a": []}, {}, True),
        ({"a": [{}]}, {"a": [{"b": []}]}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": {}}, {}, False),  # an empty struct was meant
        ({"labels": {}}, {}, True),  # an empty map of strings was not
        ({"metadata": {"labels": {}}}, {"metadata": {}}, True),
        ({"labels": {"a": ""}}, {"labels": {}}, False),
        ({"a": ""}, {}, False),
        ({"a": 0}, {}, False),
        ({"a": False}, {}, False),
        (None, [], True),
        ([], {}, False),
    ],
)
def test_semantic_equality(left: object, right: object, same: bool) -> None:
    assert equal(left, right) is same
    assert equal(right, left) is same


def test_copy_shares_no_container() -> None:
    value = {"a": [1, {"b": []}], "c": None}
    found = copy(value)
    found["a"][1]["b"].append(1)  # type: ignore[index, union-attr]
    assert value == {"a": [1, {"b": []}], "c": None}


def test_labels_count_their_length_in_bytes_and_say_so() -> None:
    assert names.label_value("a" * 64) == ["must be no more than 63 bytes"]
    assert names.qualified_name("a" * 64) == ["name part must be no more than 63 bytes"]
    assert names.qualified_name("a" * 254 + "/b") == ["prefix part must be no more than 253 bytes"]
    assert names.dns1123_subdomain("a" * 254) == ["must be no more than 253 characters"]
