"""``decode``: a request body to an object of the expected type, or the 400 that says why not.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from tiphys.api import errors, protobuf
from tiphys.api.codec import yamltext
from tiphys.api.codec.clean import Check, compiled
from tiphys.api.codec.encoding import ordered
from tiphys.api.codec.jsontext import JSONError, Node, Pairs, read
from tiphys.api.codec.kinds import go_type, internal_type, scheme_name
from tiphys.api.codec.restoring import Restorer
from tiphys.api.codec.typed import DecodeError, TypedDecoder, type_name
from tiphys.api.errors import StatusError
from tiphys.api.gotext import quote
from tiphys.api.schema import Schema
from tiphys.api.scheme import GroupVersionKind
from tiphys.runtime.remembering import remembered

JSON, YAML = "application/json", "application/yaml"
ACCEPTED = (JSON, YAML, protobuf.CONTENT_TYPE)
"""What upstream lists in its refusal."""

FIND_KIND = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
_SUMMARY = 30
_SAME = {("Scale", version) for version in ("apps/v1beta1", "apps/v1beta2", "extensions/v1beta1")}
"""Kinds of other groups that upstream can convert: they are of the wrong version only."""
_TOKEN = r"[^\s()<>@,;:\\\"/\[\]?=]+"
_MEDIA_TYPE = re.compile(rf'\s*({_TOKEN}/{_TOKEN})\s*(?:;\s*{_TOKEN}=(?:{_TOKEN}|"[^"]*")\s*)*;?\s*').fullmatch


@dataclass(slots=True)
class Decoded:
    object: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    """In the words of Warning headers; unknown and duplicate fields if they are not refused."""
    empties: list[tuple[str, Any]] = field(default_factory=list)
    """Paths and values of what was sent empty and is left out of the object: see ``empties``."""


@remembered(256, longest=256)
def media_type(content_type: str) -> str:
    """One of ``ACCEPTED``. Raises 415."""
    if not content_type:
        return JSON
    form = _MEDIA_TYPE(content_type)
    if form is not None and (media := form[1].lower()) in ACCEPTED:
        return media
    raise errors.unsupported_media_type(ACCEPTED)


def decode(
    data: bytes,
    content_type: str,
    gvk: GroupVersionKind,
    schema: Schema,
    field_validation: str = "Warn",
    versions: tuple[str, ...] = (),
) -> Decoded:
    """The object in ``data``, which must be of the kind ``gvk``; ``kind`` and ``apiVersion`` may be left out.

    ``field_validation`` is ``Strict``, ``Warn`` or ``Ignore``. ``versions`` are API versions that are accepted besides
    that of ``gvk``. Raises ``StatusError`` 400 and 415. The result is not completed: see ``complete``.
    """
    body = data
    doubled: list[str] = []
    media = media_type(content_type)
    if media == YAML:
        try:
            data, doubled = yamltext.to_json(data)
        except yamltext.YAMLError as error:
            raise _unrecognized(str(error), gvk, body) from error
    elif media == protobuf.CONTENT_TYPE:
        try:
            data = orjson.dumps(protobuf.decode(data))
        except protobuf.ProtobufError as error:
            raise _unrecognized(str(error), gvk, body) from error
    clean = None if doubled else _clean(data, gvk, schema)
    if clean is not None:
        return Decoded(clean)
    return _Slow(gvk, schema, body, versions).decode(data, field_validation, doubled)


def normalize(obj: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """What conversion makes of an object in memory: a new one, cleaned and canonical.

    Raises ``DecodeError`` with upstream's message if a value does not fit its type.
    """
    if check(schema)(obj):
        return obj
    node = read(orjson.dumps(obj))
    if not isinstance(node, Pairs):
        raise DecodeError("not an object")
    return Restorer().decode(node, schema)


# -- the fast path

_checks: dict[int, tuple[Schema, Check]] = {}


def check(schema: Schema) -> Check:
    cached = _checks.get(id(schema))
    if cached is None:
        if len(_checks) > 500:
            _checks.clear()
        # The schema is kept with its check, so that its id cannot become another's.
        cached = _checks[id(schema)] = (schema, compiled(schema))
    return cached[1]


def _clean(data: bytes, gvk: GroupVersionKind, schema: Schema) -> dict[str, Any] | None:
    """The object, if it needs no repair and nothing is to be said about it."""
    try:
        obj = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if type(obj) is not dict or schema.preserve_unknown:
        return None
    if obj.get("kind") != gvk.kind or obj.get("apiVersion") != gvk.api_version:
        return None
    try:
        if not check(schema)(obj) or may_hold_duplicates(data, obj):
            return None
    except (ValueError, TypeError):
        # Both libraries have limits of depth below that of the reader.
        return None
    return ordered(obj)


def may_hold_duplicates(data: bytes, obj: dict[str, Any]) -> bool:
    """Whether a key may be repeated: the text has more keys than the decoded object.

    Keys are counted by the ``":`` that ends them. In strings that text is the same in both, unless its quote was
    written as a number; that, and space between a key and its colon, are left to the slow path.
    """
    written = orjson.dumps(obj)
    if len(written) == len(data):
        return False
    if b"\\u0022" in data or b'" :' in data or b"\t:" in data or b"\n:" in data or b"\r:" in data:
        return True
    return data.count(b'":') != written.count(b'":')


# -- the slow path


class _Slow:
    def __init__(self, gvk: GroupVersionKind, schema: Schema, body: bytes, versions: tuple[str, ...]) -> None:
        self._gvk = gvk
        self._schema = schema
        self._body = body
        self._versions = versions

    def decode(self, data: bytes, field_validation: str, doubled: list[str]) -> Decoded:
        """The decoded object, its warnings and its sent empties.

        Raises ``StatusError`` 400 if the body does not fit the type.
        """
        try:
            node = read(data)
        except JSONError as error:
            raise self._no_kind(str(error)) from error
        api_version, kind = self._interpret(node)
        known = self._known(api_version, kind)
        decoder = TypedDecoder()
        try:
            obj = decoder.decode(node if isinstance(node, Pairs) else Pairs(), self._schema) if known else {}
        except DecodeError as error:
            raise self._cannot(api_version, kind, str(error)) from error
        strict = decoder.strict_errors
        if (strict or doubled) and field_validation == "Strict":
            lines = "".join(f"\n  {line}" for line in doubled)
            yaml_errors = [f"yaml: unmarshal errors:{lines}"] if doubled else []
            raise self._cannot(api_version, kind, f"strict decoding error: {', '.join([*yaml_errors, *strict])}")
        if not known:
            source = go_type(api_version, kind, self._gvk)
            reason = f"converting ({source}) to ({internal_type(self._gvk)}): unknown conversion"
            raise self._cannot(api_version, kind, reason)
        if api_version != self._gvk.api_version and api_version not in self._versions:
            raise errors.bad_request(
                f"the API version in the data ({api_version}) does not match "
                f"the expected API version ({self._gvk.api_version})"
            )
        obj["kind"], obj["apiVersion"] = kind, api_version
        warnings = [*doubled, *strict] if field_validation == "Warn" else []
        return Decoded(ordered(obj), warnings, decoder.empties)

    def _interpret(self, node: Node) -> tuple[str, str]:
        """API version and kind, with what is left out filled in from what is expected."""
        try:
            api_version, kind = head_of(node)
        except JSONError as error:
            raise self._no_kind(str(error)) from error
        if api_version.count("/") > 1:
            raise _unrecognized(f"unexpected GroupVersion string: {api_version}", self._gvk, self._body)
        return (api_version.strip("/") and api_version) or self._gvk.api_version, kind or self._gvk.kind

    def _known(self, api_version: str, kind: str) -> bool:
        """Whether the body is of the expected kind, in some version. Raises 400 for a kind that nobody knows."""
        group = api_version.rpartition("/")[0]
        if kind == self._gvk.kind and api_version == self._gvk.api_version:
            return True
        if api_version in self._versions and kind == self._gvk.kind:
            return True
        if go_type(api_version, kind, self._gvk) is None:
            why = (
                f"no kind {quote(kind)} is registered for version {quote(api_version)} "
                f"in scheme {quote(scheme_name(self._gvk))}"
            )
            raise self._cannot(api_version, kind, why)
        return kind == self._gvk.kind and (group == self._gvk.group or (kind, api_version) in _SAME)

    def _cannot(self, api_version: str, kind: str, reason: str) -> StatusError:
        version = api_version.rpartition("/")[2]
        return errors.bad_request(
            f"{kind} in version {quote(version)} cannot be handled as a {self._gvk.kind}: {reason}"
        )

    def _no_kind(self, reason: str) -> StatusError:
        return _unrecognized(f"couldn't get version/kind; json parse error: {reason}", self._gvk, self._body)


def head_of(node: Node) -> tuple[str, str]:
    """The API version and the kind that a body names, empty if it does not. Raises ``JSONError``."""
    head = {"apiVersion": "", "kind": ""}
    if isinstance(node, Pairs):
        for name, value in node.pairs:
            if name in head and value is not None:
                if not isinstance(value, str):
                    why = f"json: cannot unmarshal {type_name(value)} into Go struct field .{name} of type string"
                    raise JSONError(why)
                head[name] = value
    elif node is not None:
        raise JSONError(f"json: cannot unmarshal {type_name(node)} into Go value of type {FIND_KIND}")
    return head["apiVersion"], head["kind"]


def _unrecognized(reason: str, gvk: GroupVersionKind, body: bytes) -> StatusError:
    return errors.bad_request(
        f"the object provided is unrecognized (must be of type {gvk.kind}): {reason} ({summary(body)})"
    )


def summary(body: bytes) -> str:
    """The start of a body, as messages about it show it."""
    if not body:
        return "<empty>"
    start = body[:_SUMMARY]
    text = start.decode("utf-8", "replace") if body[:1] == b"{" else start.hex()
    return f"{text} ..." if len(body) > _SUMMARY else text


__all__ = ["Decoded", "decode", "media_type", "normalize"]
