"""Objects in protobuf form: the recorded samples, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recorded.conversations import wire_samples
from tiphys.api import codec, protobuf
from tiphys.api.definitions import definitions
from tiphys.api.protobuf.messages import messages
from tiphys.api.resources import builtin_scheme
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind


def message(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2, len(data)]) + data


def envelope(api_version: bytes, kind: bytes, raw: bytes) -> bytes:
    return protobuf.MAGIC + message(1, message(1, api_version) + message(2, kind)) + message(2, raw)


def config_map(raw_meta: bytes = message(1, b"x")) -> bytes:
    return envelope(b"v1", b"ConfigMap", message(1, raw_meta) + message(2, message(1, b"k") + message(2, b"v")))


def test_a_config_map() -> None:
    expected = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"k": "v"}}
    assert protobuf.decode(config_map()) == expected


def test_empty_strings_of_go_are_dropped_as_from_json() -> None:
    meta = message(1, b"x") + message(2, b"") + message(3, b"") + message(8, b"")
    gvk = GroupVersionKind("", "v1", "ConfigMap")
    decoded = codec.decode(config_map(meta), protobuf.CONTENT_TYPE, gvk, schema_for(gvk), "Strict").object
    assert codec.complete(decoded, schema_for(gvk))["metadata"]["name"] == "x"
    assert "namespace" not in decoded["metadata"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{}", "does not appear to be a protobuf message"),
        (envelope(b"v1", b"Gadget", b""), 'no kind "Gadget" is registered'),
        (config_map()[:-3], "unexpected EOF"),
        (envelope(b"v1", b"ConfigMap", b"\x0f"), "illegal wire type 7"),
        (envelope(b"v1", b"ConfigMap", b"\xff" * 11), "integer overflow"),
    ],
)
def test_what_is_no_object_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(protobuf.ProtobufError, match=says):
        protobuf.decode(body)


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_noise_is_refused_or_read_and_never_worse(noise: bytes) -> None:
    try:
        protobuf.decode(envelope(b"v1", b"Pod", b"")[:-2] + b"\x12" + bytes([len(noise) & 0x7F]) + noise)
    except protobuf.ProtobufError:
        return


def test_each_served_kind_is_read_as_its_json() -> None:
    samples = wire_samples()
    read = 0
    for resource in builtin_scheme().resources():
        for version in resource.versions:
            name = f"{resource.group or 'core'}.{version}.{resource.kind}"
            if f"{name}.pb" in samples:
                assert protobuf.decode(samples[f"{name}.pb"]) == json.loads(samples[f"{name}.json"]), name
                read += 1
    assert read > 60


def test_fields_have_the_names_that_the_published_definitions_give_them() -> None:
    known = definitions()
    for message, fields in messages().items():
        properties = known.get(message, {}).get("properties")
        if properties:
            assert {field.name for field in fields if field.name} <= set(properties), message


def _samples() -> list[str]:
    """Names of the samples of kinds that have a protobuf form here: those that are served, and options."""
    objects = {name.removesuffix(".json"): json.loads(text) for name, text in wire_samples().items() if "json" in name}
    return sorted(n for n, o in objects.items() if "kind" in o and protobuf.has_message(o["apiVersion"], o["kind"]))


@pytest.mark.parametrize("name", _samples())
def test_each_sample_is_written_byte_for_byte(name: str) -> None:
    assert protobuf.encode(json.loads(wire_samples()[f"{name}.json"])) == wire_samples()[f"{name}.pb"]


def test_enough_samples() -> None:
    assert len(_samples()) > 90


def test_a_watch_event_is_framed() -> None:
    body = protobuf.encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}})
    event = b"\n\x05ADDED\x12" + bytes([len(body) + 2]) + b"\n" + bytes([len(body)]) + body
    assert protobuf.watch_event("ADDED", body) == len(event).to_bytes(4, "big") + event


@given(st.integers(0, 3), st.text(max_size=300))
def test_a_list_is_joined_from_the_messages_of_its_items(count: int, text: str) -> None:
    items = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}"}, "data": {"k": text}}
        for number in range(count)
    ]
    meta = {"resourceVersion": "7", "remainingItemCount": 300}
    pieces = protobuf.join("v1", "ConfigMapList", meta, [protobuf.unwrap(protobuf.encode(item)) for item in items])
    bare = [{key: value for key, value in item.items() if key not in ("apiVersion", "kind")} for item in items]
    whole = {"apiVersion": "v1", "kind": "ConfigMapList", "metadata": meta, "items": bare}
    assert b"".join(pieces) == protobuf.encode(whole)
