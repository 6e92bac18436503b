"""Request bodies to custom resources: read without a type, then brought into the shape that the schema gives.

Sources: KEP-2885 (server-side field validation), and the pages on pruning and defaulting of custom resources.
"""

from __future__ import annotations

from collections.abc import Mapping

from tiphys.api import errors
from tiphys.api.codec import yamltext
from tiphys.api.codec.decoding import FIND_KIND, Decoded, summary
from tiphys.api.codec.encoding import ordered
from tiphys.api.codec.jsontext import JSONError, Node, Pairs, read
from tiphys.api.codec.typed import DecodeError, plain, type_name
from tiphys.api.custom.metadata import coerce_embedded, read_metadata
from tiphys.api.custom.shaping import IMPLIED, drop_nulls, prune
from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.api.patch.duplicates import duplicates
from tiphys.api.scheme import CustomVersion, GroupVersionKind

Versions = Mapping[str, CustomVersion]
"""The versions of a custom resource by name."""

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"


def decode(
    data: bytes, content_type: str, version: CustomVersion, versions: Versions, field_validation: str
) -> Decoded:
    """The object in a body, yet without its defaults. ``version`` is that of the path. Raises 400 and 415."""
    media = content_type.partition(";")[0].strip().lower() or JSON
    if media not in (JSON, YAML):
        raise errors.unsupported_media_type((JSON, YAML, PROTOBUF))
    body, doubled = data, list[str]()
    if media == YAML:
        try:
            data, doubled = yamltext.to_json(data)
        except yamltext.YAMLError as error:
            raise _unrecognized(str(error), version.gvk, body) from error
    obj, strict = _read(data, version.gvk, body)
    kind, api_version = obj["kind"], obj.get("apiVersion") or ""
    known = api_version.rpartition("/")[2]
    try:
        unknown = coerce(obj, versions, version.gvk)
    except DecodeError as error:
        raise _cannot(kind, known, version.gvk, str(error)) from error
    strict += unknown
    if field_validation == "Strict" and (strict or doubled):
        lines = "".join(f"\n  {line}" for line in doubled)
        yaml_errors = [f"yaml: unmarshal errors:{lines}"] if doubled else []
        raise _cannot(kind, known, version.gvk, f"strict decoding error: {', '.join([*yaml_errors, *strict])}")
    warnings = [*doubled, *strict] if field_validation == "Warn" else []
    return Decoded(ordered(obj), warnings)


def check_version(obj: Object, version: CustomVersion) -> None:
    """Raise 400 if the object is of another version than the path."""
    version_, wanted = obj.get("apiVersion") or "", version.gvk.api_version
    if version_ != wanted:
        text = f"the API version in the data ({version_}) does not match the expected API version ({wanted})"
        raise errors.bad_request(text)


def coerce(obj: Object, versions: Versions, gvk: GroupVersionKind) -> list[str]:
    """Read the metadata, prune, and drop nulls, in place; gives messages about unknown fields.

    Only objects of the kind and group of ``gvk`` are pruned, by their own version; of one that is not known, everything
    goes. Raises ``DecodeError``.
    """
    strict: list[str] = []
    meta = None
    if "metadata" in obj:
        meta, strict = read_metadata(obj["metadata"])
    group, _, name = (obj.get("apiVersion") or "").rpartition("/")
    if group == gvk.group and obj.get("kind") == gvk.kind:
        structural = versions[name].structural if name in versions else None
        head = {name: obj[name] for name in IMPLIED if name in obj}
        strict += [f"unknown field {quote(path)}" for path in prune(obj, structural)]
        drop_nulls(obj, structural)
        inside: list[str] = []
        coerce_embedded(obj, structural, "", inside)
        strict += sorted(inside)
        obj.update(head)
    if meta is not None:
        obj["metadata"] = meta
    return strict


# -- reading


def _read(data: bytes, gvk: GroupVersionKind, body: bytes) -> tuple[Object, list[str]]:
    """The object, and its repeated fields."""
    try:
        node = read(data)
    except JSONError as error:
        raise _unrecognized(f"couldn't get version/kind; json parse error: {error}", gvk, body) from error
    _check_head(node, gvk, body)
    if not isinstance(node, Pairs) or not _text(node, "kind"):
        raise _unrecognized(f"Object 'Kind' is missing in '{data.decode(errors='replace')}'", gvk, body)
    if _text(node, "apiVersion").count("/") > 1:
        raise _unrecognized(f"unexpected GroupVersion string: {_text(node, 'apiVersion')}", gvk, body)
    try:
        obj = plain(node)
    except DecodeError as error:
        raise _unrecognized(str(error), gvk, body) from error
    return obj, duplicates(node)


def _text(node: Pairs, name: str) -> str:
    values = [value for key, value in node.pairs if key == name and value is not None]
    return str(values[-1]) if values else ""


def _check_head(node: Node, gvk: GroupVersionKind, body: bytes) -> None:
    start = "couldn't get version/kind; json parse error: json: cannot unmarshal"
    if node is not None and not isinstance(node, Pairs):
        raise _unrecognized(f"{start} {type_name(node)} into Go value of type {FIND_KIND}", gvk, body)
    for name, value in node.pairs if isinstance(node, Pairs) else ():
        if name in ("kind", "apiVersion") and value is not None and not isinstance(value, str):
            text = f"{start} {type_name(value)} into Go struct field .{name} of type string"
            raise _unrecognized(text, gvk, body)


def _cannot(kind: str, version: str, gvk: GroupVersionKind, reason: str) -> errors.StatusError:
    return errors.bad_request(f"{kind} in version {quote(version)} cannot be handled as a {gvk.kind}: {reason}")


def _unrecognized(reason: str, gvk: GroupVersionKind, body: bytes) -> errors.StatusError:
    text = f"the object provided is unrecognized (must be of type {gvk.kind}): {reason} ({summary(body)})"
    return errors.bad_request(text)


__all__ = ["check_version", "coerce", "decode"]
