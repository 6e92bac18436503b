"""A MutatingAdmissionPolicy: patches that its expressions make, laid over the object. Pure.

Source: https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from tiphys.api.apply.configured import check
from tiphys.api.apply.fieldset import FieldSetError
from tiphys.api.apply.merging import merge
from tiphys.api.apply.shapes import LEAF, TypePlan, plan_of, shape_of
from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.api.patch.failures import PatchError
from tiphys.api.patch.jsonpatch import json_patch
from tiphys.api.schema import Schema
from tiphys.apiserver.admission.policies.expressions import CompiledText, Input, OutOfBudget, PolicyExpressions
from tiphys.cel.expression import Use
from tiphys.cel.values import Duration, Message, Optional, Timestamp

_TEST_FAILED = "test failed"


class MutationError(Exception):
    """The mutation could not be made; ``str`` is what the policy reports."""


class Mutation:
    """One of the patches of a policy."""

    def __init__(self, source: Mapping[str, Any], expressions: PolicyExpressions) -> None:
        self.is_apply = source.get("patchType") == "ApplyConfiguration"
        use = Use.APPLY_CONFIGURATION if self.is_apply else Use.JSON_PATCH
        definition = source.get("applyConfiguration" if self.is_apply else "jsonPatch") or {}
        self._expression: CompiledText = expressions.compile(definition.get("expression") or "", use)
        self._expressions = expressions

    def apply(self, given: Input, schema: Schema) -> Object:
        """The object with the patch. Raises MutationError, and Unanswered if the authorizer is to be asked first."""
        try:
            outcome = self._expressions.evaluation(given, with_authorizer=True).run(self._expression)
        except OutOfBudget as wrong:
            raise MutationError(str(wrong)) from None
        if outcome.error:
            raise MutationError(outcome.error)
        if self.is_apply:
            return _merged(given.object, outcome.value, schema)
        return _patched(given.object, outcome.value)


class MutatingPolicy:
    def __init__(self, policy: Mapping[str, Any]) -> None:
        self.name = policy["metadata"]["name"]
        self.spec = policy.get("spec") or {}
        self.expressions = PolicyExpressions(self.spec)
        self.mutations = [Mutation(mutation, self.expressions) for mutation in self.spec.get("mutations") or ()]

    @property
    def fails(self) -> bool:
        return self.expressions.fails

    @property
    def again(self) -> bool:
        """Whether it sees the object once more when others have changed it."""
        return self.spec.get("reinvocationPolicy") == "IfNeeded"


def _patched(obj: Object, operations: Any) -> Object:
    try:
        patched = json_patch(obj, [_operation(operation) for operation in operations])
    except PatchError as wrong:
        if str(wrong).endswith(_TEST_FAILED):
            return obj
        raise MutationError(f"JSON Patch: {wrong}") from None
    return patched if isinstance(patched, dict) else {}


def _operation(value: Any) -> Object:
    if not isinstance(value, Message) or value.name != "JSONPatch":
        raise MutationError("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch")
    fields = {"op": value.fields.get("op", ""), "path": value.fields.get("path", "")}
    if value.fields.get("from"):
        fields["from"] = value.fields["from"]
    if "value" in value.fields:
        inner = value.fields["value"]
        if isinstance(inner, Message):
            _check_names(inner, [inner.name])
        fields["value"] = plain(inner)
    return fields


def _merged(obj: Object, value: Any, schema: Schema) -> Object:
    if not isinstance(value, Message):
        raise MutationError("unsupported return type from ApplyConfiguration expression")
    _check_names(value, ["Object"])
    applied = {**plain(value), "apiVersion": obj.get("apiVersion"), "kind": obj.get("kind")}
    message = "error applying patch: "
    try:
        check(applied, schema)
    except FieldSetError as wrong:
        raise MutationError(f"{message}failed to convert patch object to typed object: {wrong}") from None
    if atomic := list(_atomic(applied, plan_of(schema), "")):
        paths = ", ".join(atomic)
        raise MutationError(
            f"{message}invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {paths}"
        )
    try:
        return merge(obj, applied, schema)
    except FieldSetError as wrong:
        raise MutationError(f"{message}failed to merge patch: {wrong}") from None


def _atomic(value: Any, plan: TypePlan, path: str) -> Iterator[str]:
    """The paths of what can only be replaced as a whole."""
    if isinstance(value, dict | list) and shape_of(plan, value) == LEAF:
        yield path
    if isinstance(value, dict):
        for name, child in value.items():
            known = plan.children.get(name)
            if known is not None:
                yield from _atomic(child, known[1], f"{path}.{name}")
    elif isinstance(value, list) and plan.items is not None:
        for i, child in enumerate(value):
            yield from _atomic(child, plan.items, f"{path}[{i}]")


def _check_names(value: Any, path: list[str]) -> None:
    """The type of a message is named after the path to it: ``Object.spec.template``."""
    if isinstance(value, Message):
        wanted = ".".join(path)
        if value.name != wanted:
            message = f"unexpected type name {quote(value.name)}, expected {quote(wanted)}"
            raise MutationError(f"type mismatch: {message}, which matches field name path from root Object type")
        for name, child in value.fields.items():
            _check_names(child, [*path, name])
    elif isinstance(value, list):
        for child in value:
            _check_names(child, path)
    elif isinstance(value, dict):
        for child in value.values():
            _check_names(child, path)


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Message):
        return {name: plain(inner_value) for name, inner_value in value.fields.items()}
    if isinstance(value, list):
        return [plain(inner_value) for inner_value in value]
    if isinstance(value, Mapping):
        return {str(key): plain(inner_value) for key, inner_value in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Timestamp | Duration):
        return str(value)
    if isinstance(value, Optional):
        return plain(value.value) if value.present else None
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value
