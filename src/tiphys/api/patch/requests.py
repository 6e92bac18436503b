"""A patch request: the body, the current object, and the object that results.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from tiphys.api import errors, fielderrors
from tiphys.api.codec.decoding import FIND_KIND, Decoded, check, may_hold_duplicates
from tiphys.api.codec.encoding import ordered
from tiphys.api.codec.jsontext import JSONError, Node, Pairs, read
from tiphys.api.codec.kinds import go_type, internal_type, scheme_name
from tiphys.api.codec.restoring import Restorer
from tiphys.api.codec.typed import DecodeError, TypedDecoder, plain, type_name
from tiphys.api.errors import StatusError
from tiphys.api.gotext import quote, value_text
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.api.patch.duplicates import duplicates
from tiphys.api.patch.failures import BadPatch, PatchError
from tiphys.api.patch.jsonpatch import MAX_OPERATIONS, JSONPatch
from tiphys.api.patch.mergepatch import merged
from tiphys.api.patch.strategic import strategic_merge_patch
from tiphys.api.patch.verbatim import as_node, in_order, node_text, verbatim
from tiphys.api.schema import ANY, OBJECT, STRING, Field, Schema
from tiphys.api.scheme import GroupVersionKind

Refuse = Callable[[str], StatusError]
Shape = Callable[[Object], list[str]]
"""Brings an object into its shape, in place, and gives messages about unknown fields. Raises ``DecodeError``."""

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
    shape: Shape | None = None,
) -> Decoded:
    """``current``, in the version of ``gvk``, with the patch applied; and what there is to warn about.

    The result is clean and canonical like a decoded body; it is yet to be given defaults and completed. ``media_type``
    is one of the first three above; apply has its own function. ``shape`` is how an object without a Go type, a custom
    resource, is brought into its shape. Raises ``StatusError``.
    """
    request = _Patch(current=current, body=body, gvk=gvk, schema=schema, field_validation=field_validation, shape=shape)
    if media_type == JSON_PATCH:
        return request.json()
    if media_type == MERGE_PATCH:
        return request.merge()
    return request.strategic()


class _Patch:
    def __init__(
        self,
        *,
        current: Object,
        body: bytes,
        gvk: GroupVersionKind,
        schema: Schema,
        field_validation: str,
        shape: Shape | None,
    ) -> None:
        self.current = current
        self.body = body
        self.gvk = gvk
        self.schema = schema
        self.shape = shape
        self.validation = field_validation

    # -- the three kinds of patches

    def json(self) -> Decoded:
        try:
            return self._json()
        except RecursionError:  # operations can nest what they move deeper than any body is
            raise _unprocessable() from None

    def _json(self) -> Decoded:
        operations = self._plain_operations()
        if operations is not None:
            patched = self._clean(_operated(self.current, operations)[0])
            if patched is not None:
                return patched
        node = self._read("error decoding patch: ")
        strict = self._check_operations(node)
        written = self._verbatim(node) or []
        if len(written) > MAX_OPERATIONS:
            raise errors.request_entity_too_large(
                f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(written)}"
            )
        return self._decode(
            *_operated(in_order(self.current, self.schema if self.schema.name else None), written), strict
        )

    def merge(self) -> Decoded:
        patch = self._plain_patch()
        if patch is not None:
            patched = self._clean(merged(self.current, patch, set()))
            if patched is not None:
                return patched
        node = self._read_merge_patch()
        strict = duplicates(node)
        touched: set[int] = set()
        current = in_order(self.current, self.schema if self.schema.name else None)
        return self._decode(merged(current, self._verbatim(node), touched), touched, strict)

    def strategic(self) -> Decoded:
        """The result of a strategic merge patch. Raises ``StatusError``: 400, 422 and 500 as upstream does."""
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
        """The patch, if there is nothing odd about its text: an object without repeated keys."""
        try:
            patch = orjson.loads(self.body)
            return patch if isinstance(patch, dict) and not may_hold_duplicates(self.body, patch) else None
        except (orjson.JSONDecodeError, TypeError):
            return None

    def _plain_operations(self) -> list[Object] | None:
        """The operations of a JSON patch, if there is nothing odd about their text."""
        try:
            operations = orjson.loads(self.body)
            plain = (
                isinstance(operations, list)
                and len(operations) <= MAX_OPERATIONS
                and all(map(_is_operation, operations))
            )
            return operations if plain and not may_hold_duplicates(self.body, operations) else None
        except (orjson.JSONDecodeError, TypeError):
            return None

    def _read_merge_patch(self) -> Node:
        """An object, or, if no extra checks were requested, a list, which takes the object's place."""
        invalid = errors.bad_request("Invalid JSON Patch")
        try:
            node = read(self.body)
        except JSONError as error:
            raise (invalid if self._lax else errors.bad_request(f"error decoding patch: {error}")) from error
        if node is None:
            raise invalid
        if isinstance(node, Pairs) or (self._lax and isinstance(node, list)):
            return node
        reason = f"json: cannot unmarshal {type_name(node)} into Go value of type {_MAP}"
        raise invalid if self._lax else errors.bad_request(f"error decoding patch: {reason}")

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

    def _verbatim(self, node: Node) -> Any:
        try:
            return verbatim(node)
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
        warnings: list[str] = []
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
            warnings += [f"json patch {message}" for message in [*decoder.strict_errors, *doubled]]
        return warnings

    # -- the patched object

    def _clean(self, patched: Any) -> Decoded | None:
        """The patched object, if it needs no repair and there is nothing to say about it."""
        if not isinstance(patched, dict) or not self.schema.name:
            return None
        if patched.get("kind") != self.gvk.kind or patched.get("apiVersion") != self.gvk.api_version:
            return None
        try:
            # What the patch did not touch is still the current object's, which is not the caller's to change.
            return Decoded(ordered(copy(patched))) if check(self.schema)(patched) else None
        except (ValueError, TypeError):
            return None

    def _decode(self, patched: Any, touched: set[int], strict: list[str]) -> Decoded:
        """The object of its type, as if the patched text were a request body."""
        node = as_node(patched, touched)

        def refuse(reason: str) -> StatusError:
            return _invalid(node_text(node), reason)

        if not isinstance(node, Pairs):
            reason = f"json: cannot unmarshal {type_name(node)} into Go value of type {FIND_KIND}"
            raise refuse(f"couldn't get version/kind; json parse error: {reason}")
        kind, api_version = self._kind(node, refuse)
        decoder = TypedDecoder()
        if self.shape is not None:
            shaped = self._shaped(decoder, node, refuse)
            return self._finish(shaped, [*strict, *decoder.strict_errors], refuse, decoder)
        obj = self._typed(decoder, node, refuse) if api_version else _without_version(decoder, node)
        obj["kind"], obj["apiVersion"] = kind, self.gvk.api_version
        return self._finish(obj, [*strict, *decoder.strict_errors], refuse, decoder)

    def _restore(self, patched: Object, patch: Object, strict: list[str]) -> Decoded:
        """The object of its type, as upstream converts maps in memory."""
        clean = None if strict else self._clean(patched)
        if clean is not None:
            return clean

        def refuse(reason: str) -> StatusError:
            return _invalid(value_text(patch), reason)

        decoder = Restorer()
        node = as_node(patched, set())
        assert isinstance(node, Pairs)
        obj = self._typed(decoder, node, refuse)
        obj["kind"], obj["apiVersion"] = self.gvk.kind, self.gvk.api_version
        return self._finish(obj, [*strict, *sorted(decoder.strict_errors)], refuse, decoder)

    def _typed(self, decoder: TypedDecoder, node: Pairs, refuse: Refuse) -> Object:
        try:
            return decoder.decode(node, self.schema)
        except DecodeError as error:
            raise refuse(str(error)) from error

    def _shaped(self, decoder: TypedDecoder, node: Pairs, refuse: Refuse) -> Object:
        """A custom resource: what it says of its kind and version is looked at when it is validated."""
        assert self.shape is not None
        head = dict(node.pairs)
        if not head.get("kind"):
            raise refuse(f"Object 'Kind' is missing in '{node_text(node)}'")
        if not head.get("apiVersion"):
            raise errors.internal("Object 'apiVersion' is missing in 'object has no apiVersion field'")
        try:
            obj: Object = plain(node)
            decoder.strict_errors += self.shape(obj)
        except DecodeError as error:
            raise refuse(str(error)) from error
        return obj

    def _kind(self, node: Pairs, refuse: Refuse) -> tuple[str, str]:
        """Kind and API version of the patched object, the version empty if it has none."""
        head = dict(node.pairs)
        for name in ("kind", "apiVersion"):
            value = head.get(name)
            if value is not None and not isinstance(value, str):
                reason = f"json: cannot unmarshal {type_name(value)} into Go struct field .{name} of type string"
                raise refuse(f"couldn't get version/kind; json parse error: {reason}")
        kind, api_version = str(head.get("kind") or self.gvk.kind), str(head.get("apiVersion") or "")
        if not self.schema.name:
            return kind, api_version or self.gvk.api_version
        if api_version.count("/") > 1:
            raise refuse(f"unexpected GroupVersion string: {api_version}")
        if kind == self.gvk.kind and api_version in ("", self.gvk.api_version):
            return kind, api_version
        source = go_type(api_version, kind, self.gvk)
        if source is None:
            shown = f"{quote(kind)} is registered for version {quote(api_version)}"
            raise refuse(f"no kind {shown} in scheme {quote(scheme_name(self.gvk))}")
        raise refuse(f"converting ({source}) to ({internal_type(self.gvk)}): unknown conversion")

    def _finish(self, obj: Object, strict: list[str], refuse: Refuse, decoder: TypedDecoder) -> Decoded:
        if strict and self.validation == "Strict":
            raise refuse(f"strict decoding error: {', '.join(strict)}")
        return Decoded(ordered(obj), [] if self._lax else strict, decoder.empties)


def _operated(current: Object, operations: list[Any]) -> tuple[Any, set[int]]:
    run = JSONPatch(copy(current))
    try:
        return run.run(operations), run.touched
    except PatchError as error:
        raise _unprocessable() from error


def _is_operation(value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() <= _OPERATION.fields.keys():
        return False
    return all(isinstance(text, str) for name, text in value.items() if name != "value")


def _without_version(decoder: TypedDecoder, node: Pairs) -> Object:
    """An object without an API version is read as the internal type, where nothing has the name that it has here."""
    decoder.strict_errors += [f"unknown field {quote(name)}" for name, _ in node.pairs if name != "kind"]
    return {}


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
