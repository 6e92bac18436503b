"""Schemas as documents have them: the published definitions, with the document's references and what they leave out.

The published definitions add nulls and constants that documents do not have, and leave out which values a field may
have (``data/enums.json``, from the constants of the API reference). Two types are written by themselves: a quantity and
a number or text, which Swagger 2.0 cannot describe but as a text.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.resources import files

import orjson

from tiphys.api.object import Object
from tiphys.api.openapi.defaults import add_defaults, add_stated_defaults
from tiphys.api.schema import has_schema, schema_of

Definitions = Mapping[str, Object]
"""Published schemas by name; references in them are ``#/$defs/NAME``."""
Api = tuple[str, str]
"""Group and version."""

V3 = "#/components/schemas/"
V2 = "#/definitions/"

_QUANTITY = {
    "description": "A number with a decimal or binary suffix (`100m`, `1.5`, `64Mi`, `2e3`), kept as a text in its"
    " canonical form; a plain number is read as well."
    " More info: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/"
}
_INT_OR_STRING = {
    "description": "A whole number of 32 bits, or a text: where a share such as `50%`, or a name, may stand for it.",
    "format": "int-or-string",
}
_TEXT: Object = {"type": "string"}
_ALONE: dict[str, tuple[Object, Object]] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": (
        _QUANTITY | _TEXT,
        _QUANTITY | {"oneOf": [_TEXT, {"type": "number"}]},
    ),
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": (
        _INT_OR_STRING | _TEXT,
        _INT_OR_STRING | {"oneOf": [{"type": "integer"}, _TEXT]},
    ),
}
"""The types that are written by themselves: in Swagger 2.0, and in OpenAPI 3.0."""


def schemas_v2(names: set[str], definitions: Definitions) -> Object:
    """The schemas called ``names`` and all that they refer to, by name, in Swagger 2.0."""
    return _closure(names, definitions, V2)


def schemas_v3(names: set[str], definitions: Definitions, api: Api | None) -> Object:
    """The same in OpenAPI 3.0; of kinds that all groups have, ``api`` chooses its own."""
    schemas = _closure(names, definitions, V3)
    for name, schema in schemas.items():
        if has_schema(name):
            add_defaults(schema, schema_of(name))
        add_stated_defaults(schema, name)
        if api is not None and len(kinds := schema.get(_KINDS, ())) > 1:
            schema[_KINDS] = [kind for kind in kinds if (kind["group"], kind["version"]) in (api, ("", "v1"))]
    return schemas


_KINDS = "x-kubernetes-group-version-kind"


def _closure(names: set[str], definitions: Definitions, prefix: str) -> Object:
    schemas: Object = {}
    todo = sorted(names)
    while todo:
        name = todo.pop()
        if name in schemas or name not in definitions:
            continue
        if name in _ALONE:
            schemas[name] = dict(_ALONE[name][prefix == V3])
            continue
        schemas[name] = _schema(definitions[name], prefix, todo.append)
        _add_enums(schemas[name], _enums().get(name, {}))
    return dict(sorted(schemas.items()))


@lru_cache(maxsize=1)
def _enums() -> dict[str, dict[str, list[str]]]:
    """By definition and field (``[]`` for its items, ``{}`` for its values): the values that it may have."""
    table: dict[str, dict[str, list[str]]] = orjson.loads(files("tiphys.api").joinpath("data/enums.json").read_bytes())
    return table


def _add_enums(schema: Object, fields: Mapping[str, list[str]]) -> None:
    for field, values in fields.items():
        shown = schema["properties"][field.rstrip("[]{}")]
        inner = shown["items"] if field.endswith("[]") else shown["additionalProperties"] if "{" in field else shown
        inner["enum"] = values
        if inner is shown:
            text = "".join(f'\n - `"{value}"`' for value in values)
            shown["description"] = f"{shown.get('description', '')}\n\nPossible enum values:{text}".lstrip("\n")


def _schema(published: Object, prefix: str, refer: Callable[[str], None]) -> Object:
    """A published schema without what only its publisher added: nulls among the types, and constants."""
    schema: Object = {}
    for key, value in published.items():
        match key, value:
            case "$ref", str():
                refer(value.rpartition("/")[2])
                schema["$ref"] = prefix + value.rpartition("/")[2]
            case "type", list():
                schema["type"] = next(t for t in value if t != "null")
            case "properties", _:
                schema["properties"] = {n: _property(n, p, prefix, refer) for n, p in value.items()}
            case (("items" | "additionalProperties" | "not"), dict()):
                schema[key] = _property("", value, prefix, refer)
            case (("allOf" | "anyOf" | "oneOf"), list()):
                schema[key] = [_property("", part, prefix, refer) for part in value]
            case _:
                schema[key] = value
    return schema


def _property(name: str, published: Object, prefix: str, refer: Callable[[str], None]) -> Object:
    schema = _schema(published, prefix, refer)
    if name in ("kind", "apiVersion"):
        schema.pop("enum", None)
    if prefix == V3 and "$ref" in schema and len(schema) > 1:  # in 3.0 a reference may have no siblings
        schema = {"allOf": [{"$ref": schema.pop("$ref")}], **schema}
    return schema
