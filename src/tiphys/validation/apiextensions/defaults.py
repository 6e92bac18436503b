"""Defaults in the schema of a custom resource: each must be a value that the schema around it allows.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#defaulting
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.codec.typed import DecodeError
from tiphys.api.custom.metadata import coerce_embedded
from tiphys.api.custom.shaping import EMBEDDED, prune_value
from tiphys.api.fielderrors import aggregate
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.validation.custom import schemas
from tiphys.validation.custom.objects import embedded_errors
from tiphys.validation.custom.rules import validate_rules
from tiphys.validation.shared.common import (
    Errors,
)

Surround = Callable[[Any], Any]
"""Puts a value where it would be in its resource, to see what that becomes."""

_IMPLIED = ("apiVersion", "kind", "metadata")


def validate_defaults(schema: Object, path: str, *, pruned: bool) -> Errors:
    """``pruned``: defaults must not have unknown fields either."""
    root = {**schema, EMBEDDED: True}
    errs: Errors = []
    _validate(errs, root, root, path, _resource, in_meta=False, pruned=pruned)
    return errs


def _resource(value: Any) -> Any:
    return {"kind": "Validation", "apiVersion": "validation/v1", **value}


def _validate(
    errs: Errors, schema: Object, root: Object, path: str, surround: Surround, *, in_meta: bool, pruned: bool
) -> None:
    if schema.get(EMBEDDED):
        in_meta, surround, root = False, _resource, schema
    default = schema.get("default")
    if default is not None:
        at = f"{path}.default"
        if in_meta:
            errs += _of_metadata(default, schema, root, surround, at)
        else:
            errs += _of_value(default, schema, at, pruned=pruned)
    items = schema.get("items")
    if isinstance(items, dict):
        _validate(errs, items, root, f"{path}.items", lambda value: surround([value]), in_meta=in_meta, pruned=pruned)
    for name, inner in (schema.get("properties") or {}).items():
        within = in_meta or (bool(schema.get(EMBEDDED)) and name in _IMPLIED)
        around = _child(surround, name)
        _validate(errs, inner, root, f"{path}.properties[{name}]", around, in_meta=within, pruned=pruned)


def _child(surround: Surround, name: str) -> Surround:
    return lambda value: surround({name: value})


def _of_metadata(default: Any, schema: Object, root: Object, surround: Surround, path: str) -> Errors:
    obj = surround(copy(default))
    try:
        coerce_embedded(obj, root, "", [])
    except DecodeError as error:
        return [field.invalid(path, default, f"must result in valid metadata: {error}")]
    if wrong := embedded_errors(obj, root, ""):
        return [field.invalid(path, default, f"must result in valid metadata: {aggregate(wrong)}")]
    return schemas.validate(default, schema, path) or validate_rules(default, default, schema, path, ratchets=False)


def _of_value(default: Any, schema: Object, path: str, *, pruned: bool) -> Errors:
    errs: Errors = []
    if pruned and prune_value(copy(default), schema):
        errs.append(field.invalid(path, default, "must not have unknown fields"))
    value = copy(default)
    try:
        coerce_embedded(value, schema, path, [])
    except DecodeError as error:
        return [*errs, field.invalid(path, default, str(error))]
    return errs + (
        embedded_errors(value, schema, path)
        or schemas.validate(default, schema, path)
        or validate_rules(default, default, schema, path, ratchets=False)
    )
