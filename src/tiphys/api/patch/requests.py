"""A patch request: the body, the current object, and the object that comes of them.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply
"""

from __future__ import annotations

from typing import Any

import orjson

from tiphys.api import errors, fielderrors
from tiphys.api.codec.decoding import FIND_KIND, Decoded, check, may_hold_duplicates
from tiphys.api.codec.encoding import ordered
from tiphys.api.codec.jsontext import JSONError, Node, Pairs, read
from tiphys.api.codec.kinds import go_type, internal_type, scheme_name
from tiphys.api.codec.typed import DecodeError, TypedDecoder, plain, type_name
from tiphys.api.errors import StatusError
from tiphys.api.gotext import quote, value_text
from tiphys.api.meta.copying import copy
from tiphys.api.patch.failures import BadPatch, PatchError
from tiphys.api.patch.gojson import duplicates, patched_text
from tiphys.api.patch.jsonpatch import MAX_OPERATIONS, JSONPatch
from tiphys.api.patch.mergepatch import merged
from tiphys.api.patch.restoring import Restorer
from tiphys.api.patch.strategic import strategic_merge_patch
from tiphys.api.schema import ANY, OBJECT, STRING, Field, Schema
from tiphys.api.scheme import GroupVersionKind

Object = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_UNPROCESSABLE = "the server rejected our request due to an error in our request"
_MAP = "map[string]interface {}"

_OPERATION = Schema(OBJECT, "handlers.jsonPatchOp")
_OPERATION.fields.update(
    {
        name: Field(name, Schema(kind, "interface {}" if kind == ANY else "string"), omit_empty=False)
        for name, kind in (("op", STRING), ("path", STRING), ("from", STRING), ("value", ANY))
    }
)


def patch_object(
    current: Object,
    body: bytes,
    media_type: str,
    gvk: GroupVersionKind,
    schema: Schema,
    field_validation: str = "Warn",
) -> Decoded:
    """``current``, in the version of ``gvk``, with the patch applied; and what there is to warn about.

    The result is clean and canonical like a decoded body; it is yet to be given defaults and completed. ``media_type``
    is one of the first three above; apply has its own function. Raises ``StatusError``.
    """
    request = _Patch(current, body, gvk, schema, field_validation)
    if media_type == JSON_PATCH:
        return request.json()
    if media_type == MERGE_PATCH:
        return request.merge()
    return request.strategic()


class _Patch:
    def __init__(
        self, current: Object, body: bytes, gvk: GroupVersionKind, schema: Schema, field_validation: str
    ) -> None:
        self.current = current
        self.body = body
        self.gvk = gvk
        self.schema = schema
        self.validation = field_validation

    # -- the three kinds of patches

    def json(self) -> Decoded:
        node = self._read("error decoding patch: ")
        strict = self._check_operations(node)
        operations = plain(node) or []
        if len(operations) > MAX_OPERATIONS:
            raise errors.request_entity_too_large(
                f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
            )
        run = JSONPatch(copy(self.current))
        try:
            patched = run.run(operations)
        except PatchError as error:
            raise _unprocessable() from error
        return self._decode(patched, run.touched, strict)

    def merge(self) -> Decoded:
        patch = self._plain_patch()
        if patch is not None:
            touched: set[int] = set()
            return self._decode(merged(self.current, patch, touched), touched, [])
        node = self._read("error decoding patch: ")
        if node is None:
            raise errors.bad_request("Invalid JSON Patch")
        if not isinstance(node, Pairs):
            message = f"json: cannot unmarshal {type_name(node)} into Go value of type {_MAP}"
            raise errors.bad_request("Invalid JSON Patch" if self._lax else f"error decoding patch: {message}")
        touched = set()
        strict = duplicates(node)
        return self._decode(merged(self.current, self._plain(node), touched), touched, strict)

    def strategic(self) -> Decoded:
        patch, strict = self._plain_patch(), []
        if patch is None:
            node = self._read("")
            if node is not None and not isinstance(node, Pairs):
                raise errors.bad_request(f"json: cannot unmarshal {type_name(node)} into Go value of type {_MAP}")
            patch, strict = self._plain(node) or {}, duplicates(node)
        if not self.schema.name:
            raise errors.bad_request("strategic merge patch format is not supported")
        try:
            patched = strategic_merge_patch(self.current, patch, self.schema)
        except BadPatch as error:
            raise errors.bad_request(str(error)) from error
        except PatchError as error:
            if str(error) == "lists of lists are not supported":
                raise _unprocessable() from error
            raise errors.from_code(500, str(error)) from error
        return self._restore(patched, patch, strict)

    # -- reading

    @property
    def _lax(self) -> bool:
        return self.validation == "Ignore"

    def _plain_patch(self) -> Object | None:
        """The patch, where there is nothing odd about its text: an object without keys that come twice."""
        try:
            found = orjson.loads(self.body)
            return found if isinstance(found, dict) and not may_hold_duplicates(self.body, found) else None
        except (orjson.JSONDecodeError, TypeError):
            return None

    def _read(self, prefix: str) -> Node:
        try:
            return read(self.body)
        except JSONError as error:
            raise errors.bad_request(f"{'' if self._lax else prefix}{error}") from error

    def _plain(self, node: Node) -> Any:
        try:
            return plain(node)
        except DecodeError as error:
            raise errors.bad_request(str(error)) from error

    def _check_operations(self, node: Node) -> list[str]:
        """What is odd about the operations. Raises 400 for what are no operations."""
        if node is None:
            return []
        prefix = "" if self._lax else "error decoding patch: "
        names = ("jsonpatch.Patch", "jsonpatch.Operation") if self._lax else ("[]handlers.jsonPatchOp", _OPERATION.go)
        if not isinstance(node, list):
            raise errors.bad_request(
                f"{prefix}json: cannot unmarshal {type_name(node)} into Go value of type {names[0]}"
            )
        found: list[str] = []
        for index, item in enumerate(node):
            if item is None:
                continue
            if not isinstance(item, Pairs):
                raise errors.bad_request(
                    f"{prefix}json: cannot unmarshal {type_name(item)} into Go value of type {names[1]}"
                )
            if self._lax:
                continue
            decoder = TypedDecoder(path=f"[{index}]")
            try:
                decoder.decode(item, _OPERATION)
            except DecodeError as error:
                raise errors.bad_request(f"{prefix}{error}") from error
            doubled = [d for key, value in item.pairs if key == "value" for d in duplicates(value, f"[{index}].value")]
            found += [f"json patch {message}" for message in [*decoder.strict_errors, *doubled]]
        return found

    # -- the patched object

    def _decode(self, patched: Any, touched: set[int], strict: list[str]) -> Decoded:
        """The object of its type, as if the patched text had come as a body."""
        if not strict and self._is_clean(patched):
            # What the patch did not touch is still the current object's, which is not the caller's to change.
            return Decoded(ordered(copy(patched)))

        def refuse(reason: str) -> StatusError:
            return _invalid(patched_text(patched, self.schema, touched), reason)

        if not isinstance(patched, dict):
            name = "array" if isinstance(patched, list) else "string"
            reason = f"json: cannot unmarshal {name} into Go value of type {FIND_KIND}"
            raise refuse(f"couldn't get version/kind; json parse error: {reason}")
        self._check_kind(patched, refuse)
        decoder = TypedDecoder()
        found = self._typed(decoder, patched, refuse)
        return self._finish(found, [*strict, *decoder.strict_errors], refuse)

    def _restore(self, patched: Object, patch: Object, strict: list[str]) -> Decoded:
        """The object of its type, as the original converts maps in memory."""
        if not strict and self._is_clean(patched):
            return Decoded(ordered(copy(patched)))

        def refuse(reason: str) -> StatusError:
            return _invalid(value_text(patch), reason)

        decoder = Restorer()
        found = self._typed(decoder, patched, refuse)
        found.setdefault("kind", self.gvk.kind)
        found.setdefault("apiVersion", self.gvk.api_version)
        return self._finish(found, [*strict, *sorted(decoder.strict_errors)], refuse)

    def _is_clean(self, patched: Any) -> bool:
        if not isinstance(patched, dict) or not self.schema.name:
            return False
        if patched.get("kind") != self.gvk.kind or patched.get("apiVersion") != self.gvk.api_version:
            return False
        try:
            return check(self.schema)(patched)
        except (ValueError, TypeError):
            return False

    def _typed(self, decoder: TypedDecoder, patched: Object, refuse: Any) -> Object:
        if not self.schema.name:
            return copy(patched)
        try:
            node = read(orjson.dumps(patched))
            assert isinstance(node, Pairs)
            return decoder.decode(node, self.schema)
        except (DecodeError, TypeError) as error:
            raise refuse(str(error)) from error

    def _check_kind(self, patched: Object, refuse: Any) -> None:
        kind = patched.get("kind") or self.gvk.kind
        api_version = patched.get("apiVersion") or self.gvk.api_version
        if not isinstance(kind, str) or not isinstance(api_version, str):
            name = "kind" if not isinstance(kind, str) else "apiVersion"
            reason = f"json: cannot unmarshal number into Go struct field .{name} of type string"
            raise refuse(f"couldn't get version/kind; json parse error: {reason}")
        patched["kind"], patched["apiVersion"] = kind, api_version
        if (kind, api_version) == (self.gvk.kind, self.gvk.api_version) or not self.schema.name:
            return
        source = go_type(api_version, kind, self.gvk)
        if source is None:
            shown = f"{quote(kind)} is registered for version {quote(api_version)}"
            raise refuse(f"no kind {shown} in scheme {quote(scheme_name(self.gvk))}")
        raise refuse(f"converting ({source}) to ({internal_type(self.gvk)}): unknown conversion")

    def _finish(self, found: Object, strict: list[str], refuse: Any) -> Decoded:
        if strict and self.validation == "Strict":
            raise refuse(f"strict decoding error: {', '.join(strict)}")
        return Decoded(ordered(found), [] if self._lax else strict)


def _invalid(value: str, reason: str) -> StatusError:
    return errors.invalid("", "", "", [fielderrors.invalid("patch", value, reason)])


def _unprocessable() -> StatusError:
    return StatusError(errors.status(422, "Invalid", _UNPROCESSABLE, {}))


__all__ = [
    "APPLY_PATCH",
    "JSON_PATCH",
    "MERGE_PATCH",
    "STRATEGIC_MERGE_PATCH",
    "patch_object",
]
