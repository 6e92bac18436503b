"""The zero values that the published OpenAPI 3.0 documents give as defaults.

They follow from the Go types: a field that is always written, and every struct that is no pointer, has its zero value
if the client writes nothing.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition
"""

from __future__ import annotations

from typing import Any

from tiphys.api.object import Object
from tiphys.api.schema import BOOLEAN, INTEGER, NUMBER, OBJECT, STRING, Field, Schema

_ZERO: dict[str, Any] = {STRING: "", INTEGER: 0, NUMBER: 0, BOOLEAN: False}


_CORE = "io.k8s.api.core.v1."
_STATED: dict[str, dict[str, Any]] = {
    f"{_CORE}AzureDiskVolumeSource": {"readOnly": False},
    f"{_CORE}FileKeySelector": {"optional": False},
    f"{_CORE}GRPCAction": {"service": ""},
    f"{_CORE}ReplicationControllerSpec": {"minReadySeconds": 0},
    "io.k8s.api.autoscaling.v1.ScaleSpec": {"replicas": 0},
    "io.k8s.apimachinery.pkg.version.Info": dict.fromkeys(
        ("buildDate", "compiler", "gitCommit", "gitTreeState", "gitVersion", "goVersion", "major", "minor", "platform"),
        "",
    ),
}
"""Zero values that are stated, though the client may leave the field out."""


def add_stated_defaults(published: Object, name: str) -> None:
    for field, value in _STATED.get(name, {}).items():
        published["properties"][field].setdefault("default", value)


def add_defaults(published: Object, schema: Schema) -> None:
    """Put them into a rendered definition, in place."""
    properties = published.get("properties", {})
    for name, field in schema.fields.items():
        if (shown := properties.get(name)) is not None:
            _add_to_field(shown, field, schema.go.rpartition(".")[2])


def _add_to_field(shown: Object, field: Field, owner: str) -> None:
    kind = field.schema.kind
    if "default" in shown:
        return
    if field.default is not None:
        _set(shown, field.default)
    elif "LocalObjectReference" in (field.embedded, owner) and field.name == "name":
        _set(shown, "")  # it may be left out for clients of old, and says so
    if field.pointer:
        return
    if kind == OBJECT:
        _set(shown, {})
    elif kind in _ZERO and not field.omit_empty:
        _set(shown, _ZERO[kind])


def _set(shown: Object, value: Any) -> None:
    if "$ref" in shown:
        shown["allOf"] = [{"$ref": shown.pop("$ref")}]
    shown["default"] = value
