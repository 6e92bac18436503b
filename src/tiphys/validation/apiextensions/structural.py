"""Structural schemas: every field has a type, and the logical parts (allOf, anyOf, oneOf, not) only say more of it.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.meta.regexp import problem
from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    Errors,
)

_UNSUPPORTED = ("id", "$schema", "$ref", "patternProperties", "dependencies", "additionalItems", "definitions")
_UNSUPPORTED_NAMES = {"$schema": "schema"}
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
PRESERVE = "x-kubernetes-preserve-unknown-fields"
EMBEDDED = "x-kubernetes-embedded-resource"
INT_OR_STRING = "x-kubernetes-int-or-string"


def subschemas(schema: Object) -> Iterator[Object]:
    """The schemas directly in a schema."""
    for key in ("items", "not", "additionalProperties", "additionalItems"):
        if isinstance(schema.get(key), dict):
            yield schema[key]
    for key in ("allOf", "anyOf", "oneOf"):
        yield from schema.get(key) or ()
    for key in ("properties", "patternProperties", "definitions", "dependencies"):
        yield from (inner for inner in (schema.get(key) or {}).values() if isinstance(inner, dict))
    if isinstance(schema.get("items"), list):
        yield from schema["items"]


def all_schemas(schema: Object | None) -> Iterator[Object]:
    if schema is None:
        return
    yield schema
    for inner in subschemas(schema):
        yield from all_schemas(inner)


def unsupported(schema: Object | None) -> str:
    """What of the schema no structural schema can have; empty if there is nothing."""
    if schema is None:
        return ""
    for key in _UNSUPPORTED:
        if schema.get(key) or (key == "additionalItems" and schema.get(key) is not None):
            return f"OpenAPIV3Schema '{_UNSUPPORTED_NAMES.get(key, key)}' is not supported"
    for key in ("not", "allOf", "anyOf", "oneOf"):
        nested_schemas = schema.get(key) or []
        for nested in [nested_schemas] if isinstance(nested_schemas, dict) else nested_schemas:
            if problem := unsupported(nested):
                return problem
    if schema.get(PRESERVE) is False:
        return f"internal error: '{PRESERVE}' must be true or undefined"
    if isinstance(schema.get("items"), list):
        return "OpenAPIV3Schema 'items' must be a schema, but is an array"
    for nested in subschemas(schema):
        if problem := unsupported(nested):
            return problem
    return ""


def validate_structural(schema: Object, path: str) -> Errors:
    errs: Errors = []
    _invariants(errs, schema, "root", path)
    _completeness(errs, schema, schema, path, path)
    return sorted(errs, key=str)


_EMPTY_TYPE = {
    "root": "must not be empty at the root",
    "item": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}


def _invariants(errs: Errors, schema: Object, level: str, path: str) -> None:
    """Check that a node is structural: typed, without logic that adds fields. Appends to ``errs``."""
    kind, properties = schema.get("type") or "", schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    embedded = bool(schema.get(EMBEDDED))
    if kind == "array" and schema.get("items") is None:
        errs.append(field.required(f"{path}.items", "must be specified"))
    if schema.get("items") is not None:
        _invariants(errs, schema["items"], "item", f"{path}.items")
    for name, inner_schema in properties.items():
        _invariants(errs, inner_schema, "field", f"{path}.properties[{name}]")
    if additional is not None:
        if level == "root":
            errs.append(field.forbidden(f"{path}.additionalProperties", "must not be used at the root"))
        if isinstance(additional, dict):
            _invariants(errs, additional, "field", f"{path}.additionalProperties")
    _extensions(errs, schema, path)
    all_of = schema.get("allOf") or []
    _value_validation(
        errs,
        schema,
        path,
        skip_any_of=schema.get("anyOf") == _INT_OR_STRING,
        skip_first=bool(all_of) and all_of[0].get("anyOf") == _INT_OR_STRING,
    )
    if embedded and kind != "object":
        _type(errs, kind, path, f"must be object if {EMBEDDED} is true")
    elif not kind and not schema.get(INT_OR_STRING) and not schema.get(PRESERVE):
        errs.append(field.required(f"{path}.type", _EMPTY_TYPE[level]))
    if embedded and additional is not None:
        errs.append(field.forbidden(f"{path}.additionalProperties", f"must not be used if {EMBEDDED} is set"))
    if level == "root" and kind and kind != "object":
        errs.append(field.invalid(f"{path}.type", kind, "must be object at the root"))
    _type_meta(errs, properties, level, is_resource=level == "root" or embedded, path=path)
    if embedded and not schema.get(PRESERVE) and not properties:
        text = f"must not be empty if {EMBEDDED} is true without {PRESERVE}"
        errs.append(field.required(f"{path}.properties", text))


def _type(errs: Errors, kind: str, path: str, text: str) -> None:
    if kind:
        errs.append(field.invalid(f"{path}.type", kind, text))
    else:
        errs.append(field.required(f"{path}.type", text))


def _extensions(errs: Errors, schema: Object, path: str) -> None:
    for key in (PRESERVE, EMBEDDED):
        if schema.get(INT_OR_STRING) and schema.get(key):
            errs.append(field.invalid(f"{path}.{key}", True, f"must be false if {INT_OR_STRING} is true"))


def _type_meta(errs: Errors, properties: Object, level: str, path: str, *, is_resource: bool) -> None:
    """What the schema says of the fields that every resource has."""
    for name in ("kind", "apiVersion"):
        if is_resource and name in properties and properties[name].get("type") != "string":
            kind = properties[name].get("type") or ""
            errs.append(field.invalid(f"{path}.properties[{name}].type", kind, "must be string"))
    meta = properties.get("metadata")
    if meta is None:
        return
    at = f"{path}.properties[metadata]"
    if is_resource and meta.get("type") != "object":
        errs.append(field.invalid(f"{at}.type", meta.get("type") or "", "must be object"))
    if level == "root":
        rest = {key: value for key, value in meta.items() if key not in ("type", "default")}
        if rest.get("properties") and rest["properties"].keys() <= {"name", "generateName"}:
            del rest["properties"]
        if any(not _is_zero(value) or key == "additionalProperties" for key, value in rest.items()):
            text = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            errs.append(field.forbidden(at, text))


def _is_zero(value: Any) -> bool:
    return value is None or value is False or value == "" or value == [] or value == {}


def _value_validation(
    errs: Errors, schema: Object, path: str, *, skip_any_of: bool = False, skip_first: bool = False
) -> None:
    if not skip_any_of:
        for i, child in enumerate(schema.get("anyOf") or ()):
            _nested(errs, child, f"{path}.anyOf[{i}]")
    for i, child in enumerate(schema.get("allOf") or ()):
        _nested(errs, child, f"{path}.allOf[{i}]", skip_any_of=skip_first and i == 0)
    for i, child in enumerate(schema.get("oneOf") or ()):
        _nested(errs, child, f"{path}.oneOf[{i}]")
    if schema.get("not") is not None:
        _nested(errs, schema["not"], f"{path}.not")
    pattern = schema.get("pattern")
    if pattern and (wrong := problem(pattern)):
        text = f"must be a valid regular expression, but isn't: {wrong}"
        errs.append(field.invalid(f"{path}.pattern", pattern, text))


_EMPTY, _UNDEFINED, _FALSE = "must be empty to be structural", "must be undefined to be structural", "must be false"
_FORBIDDEN = (
    ("default", _UNDEFINED),
    ("title", _EMPTY),
    ("description", _EMPTY),
    ("nullable", f"{_FALSE} to be structural"),
    (PRESERVE, f"{_FALSE} to be structural"),
    (EMBEDDED, f"{_FALSE} to be structural"),
    (INT_OR_STRING, f"{_FALSE} to be structural"),
    ("x-kubernetes-list-map-keys", _EMPTY),
    ("x-kubernetes-list-type", _UNDEFINED),
    ("x-kubernetes-map-type", _UNDEFINED),
    ("x-kubernetes-validations", _EMPTY),
)


def _nested(errs: Errors, schema: Object, path: str, *, skip_any_of: bool = False) -> None:
    _value_validation(errs, schema, path, skip_any_of=skip_any_of)
    if schema.get("items") is not None:
        _nested(errs, schema["items"], f"{path}.items")
    properties = schema.get("properties") or {}
    for name, child in properties.items():
        _nested(errs, child, f"{path}.properties[{name}]")
    if schema.get("type"):
        errs.append(field.forbidden(f"{path}.type", _EMPTY))
    if schema.get("additionalProperties"):
        errs.append(field.forbidden(f"{path}.additionalProperties", _UNDEFINED))
    for key, text in _FORBIDDEN:
        value = schema.get(key)
        if value or (key == "default" and value is not None):
            errs.append(field.forbidden(f"{path}.{key}", text))
    if "metadata" in properties:
        text = "must not be specified in a nested context"
        errs.append(field.forbidden(f"{path}.properties[metadata]", text))


def _completeness(errs: Errors, values: Object, schema: Object | None, path: str, at: str) -> None:
    """What is said of a field in a logical part is of a field that the schema has."""
    if schema is None:
        errs.append(field.required(path, f"because it is defined in {at}"))
        return
    if values.get("not") is not None:
        _nested_completeness(errs, values["not"], schema, path, f"{at}.not")
    for key in ("allOf", "anyOf", "oneOf"):
        for i, child in enumerate(values.get(key) or ()):
            _nested_completeness(errs, child, schema, path, f"{at}.{key}[{i}]")


def _nested_completeness(errs: Errors, values: Object, schema: Object | None, path: str, at: str) -> None:
    if schema is None:
        errs.append(field.required(path, f"because it is defined in {at}"))
        return
    _completeness(errs, values, schema, path, at)
    if values.get("items") is not None:
        _nested_completeness(errs, values["items"], schema.get("items"), f"{path}.items", f"{at}.items")
    known = schema.get("properties") or {}
    for name, child in (values.get("properties") or {}).items():
        place = f"{at}.properties[{name}]"
        if name not in known:
            errs.append(field.required(f"{path}.properties[{name}]", f"because it is defined in {place}"))
        else:
            _nested_completeness(errs, child, known[name], f"{path}.properties[{name}]", place)


def field_path(text: str, schema: Object, *, brackets: bool = True) -> tuple[str, list[str], Object]:
    """Follow ``.spec.field`` or ``['field']`` in a schema: what is wrong, the names on the way, the schema there."""
    rest, names = text, list[str]()
    while rest:
        if rest[0] == "[":
            if not brackets:
                return "array notation is not allowed", names, schema
            match = re.match(r"\['((?:[^'\\]|\\.)*)'\]", rest)
            if match is None:
                token = re.match(r"[^.\[\]]*", rest[1:])
                shown = token[0] if token else ""
                return f"expected single quoted string but got {shown}", names, schema
            name = re.sub(r"\\(.)", r"\1", match[1])
        elif rest[0] == ".":
            match = re.match(r"\.([^.\[\]]+)", rest)
            if match is None:
                problem = "unexpected end of JSON path" if rest == "." else "does not refer to a valid field"
                return problem, names, schema
            name = match[1]
        else:
            token = re.match(r"[^.\[\]]+|.", rest)
            return f"expected [ or . but got: {token[0] if token else rest}", names, schema
        properties, additional = schema.get("properties"), schema.get("additionalProperties")
        if properties:
            if name not in properties:
                return "does not refer to a valid field", names, schema
            schema = properties[name]
        elif isinstance(additional, dict):
            schema = additional
        else:
            return "does not refer to a valid field", names, schema
        names.append(name)
        rest = rest[match.end() :]
    return "", names, schema


def unknown_fields(value: Any, schema: Object, *, is_resource: bool = False) -> bool:
    """Whether pruning would take something away from a value."""
    if isinstance(value, list):
        return any(unknown_fields(item, schema["items"]) for item in value) if schema.get("items") else False
    if not isinstance(value, dict):
        return False
    known, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    is_resource = is_resource or bool(schema.get(EMBEDDED))
    for name, child in value.items():
        if is_resource and name in ("apiVersion", "kind", "metadata"):
            continue
        if name in known:
            if unknown_fields(child, known[name]):
                return True
        elif isinstance(additional, dict):
            if unknown_fields(child, additional):
                return True
        elif additional is not True and not schema.get(PRESERVE):
            return True
    return False


def unknown_defaults(
    errs: Errors, schema: Object, path: str, *, inside_meta: bool = False, is_root: bool = True
) -> None:
    """A default must not have what is not in the schema: it would be pruned away."""
    resource = is_root or bool(schema.get(EMBEDDED))
    inside_meta = inside_meta and not resource
    default = schema.get("default")
    if default is not None and not inside_meta and unknown_fields(default, schema, is_resource=resource):
        errs.append(field.invalid(f"{path}.default", default, "must not have unknown fields"))
    if schema.get("items") is not None:
        unknown_defaults(errs, schema["items"], f"{path}.items", inside_meta=inside_meta, is_root=False)
    for name, child in (schema.get("properties") or {}).items():
        within = inside_meta or (resource and name in ("metadata", "apiVersion", "kind"))
        unknown_defaults(errs, child, f"{path}.properties[{name}]", inside_meta=within, is_root=False)
