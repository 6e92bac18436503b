"""The documents: operations and definitions rendered in OpenAPI 3.0 and in Swagger 2.0."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tiphys import KUBERNETES_VERSION
from tiphys.api.openapi.defaults import add_defaults
from tiphys.api.openapi.operations import (
    META,
    Operation,
    Parameter,
    Path,
    base_path,
    camel_tag,
    group_path,
    paths_of,
    root_path,
    server_paths,
)
from tiphys.api.schema import has_schema, schema_of
from tiphys.api.scheme import Scheme

Object = dict[str, Any]
Definitions = Mapping[str, Object]
"""Published schemas by name; references in them are ``#/$defs/NAME``."""

_V3 = "#/components/schemas/"
_V2 = "#/definitions/"


def document_names(scheme: Scheme) -> list[str]:
    """What there is under ``/openapi/v3``: ``api/v1``, ``apis/apps``, ``apis/apps/v1``, ``version``."""
    return sorted(_documents(scheme))


def document_v3(scheme: Scheme, definitions: Definitions, name: str) -> Object | None:
    """The OpenAPI 3.0 document of one group and version, of a group, or of one of the server's own paths."""
    paths_in = _documents(scheme).get(name)
    if paths_in is None:
        return None
    paths = paths_in()
    schemas = _closure(_mentioned(paths), definitions, _V3)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
        "paths": {path.path: _path_v3(path) for path in paths},
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "BearerToken": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "authorization",
                    "description": "Bearer Token authentication",
                }
            },
        },
    }


def document_v2(scheme: Scheme, definitions: Definitions) -> Object:
    """The Swagger 2.0 document of everything that is served."""
    paths = [path for _, paths_in in sorted(_documents(scheme).items()) for path in paths_in()]
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
        "paths": {path.path: _path_v2(path) for path in paths},
        "definitions": _closure(_mentioned(paths), definitions, _V2),
        "securityDefinitions": {
            "BearerToken": {
                "type": "apiKey",
                "in": "header",
                "name": "authorization",
                "description": "Bearer Token authentication",
            }
        },
        "security": [{"BearerToken": []}],
    }


def _documents(scheme: Scheme) -> dict[str, Callable[[], list[Path]]]:
    """The paths in each document."""
    found: dict[str, Callable[[], list[Path]]] = {}
    for path in server_paths():
        found[path.path.strip("/")] = partial(list, (path,))
    builtin = {resource.group for resource in scheme.resources() if resource.builtin}
    for group, versions in scheme.groups().items():
        if group in builtin and group:
            found[f"apis/{group}"] = partial(_of_group, group)
        for version in versions:
            found[base_path(group, version).removeprefix("/")] = partial(_of_version, scheme, group, version)
    return found


def _of_group(group: str) -> list[Path]:
    return [group_path(group)]


def _of_version(scheme: Scheme, group: str, version: str) -> list[Path]:
    served = [r for r in scheme.resources() if r.group == group and version in r.versions]
    roots = [root_path(group, version)] if any(r.builtin for r in served) else []
    return [*roots, *(p for r in served for p in paths_of(r, version))]


# Schemas: the published ones, with this document's references.


def _mentioned(paths: Sequence[Path]) -> set[str]:
    operations = [o for path in paths for o in path.operations]
    names = {n for o in operations for n in (o.body, o.answer) if n and n != "string"}
    return names | {f"{META}.Status"} if any(o.action for o in operations) else names


def _closure(names: set[str], definitions: Definitions, prefix: str) -> Object:
    """The schemas called ``names`` and all that they refer to, by name."""
    found: Object = {}
    todo = sorted(names)
    while todo:
        name = todo.pop()
        if name in found or name not in definitions:
            continue
        found[name] = _schema(definitions[name], prefix, todo.append)
        if prefix == _V3 and has_schema(name):
            add_defaults(found[name], schema_of(name))
    return dict(sorted(found.items()))


def _schema(published: Object, prefix: str, refer: Callable[[str], None]) -> Object:
    """A published schema without what only its publisher added: nulls among the types, and constants."""
    schema: Object = {}
    for key, value in published.items():
        if key == "$ref":
            refer(value.rpartition("/")[2])
            schema["$ref"] = prefix + value.rpartition("/")[2]
        elif key == "type":
            schema["type"] = next(t for t in value if t != "null") if isinstance(value, list) else value
        elif key == "properties":
            schema["properties"] = {n: _property(n, p, prefix, refer) for n, p in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            schema[key] = _property("", value, prefix, refer)
        else:
            schema[key] = value
    return schema


def _property(name: str, published: Object, prefix: str, refer: Callable[[str], None]) -> Object:
    schema = _schema(published, prefix, refer)
    if name in ("kind", "apiVersion"):
        schema.pop("enum", None)
    if prefix == _V3 and "$ref" in schema and len(schema) > 1:  # in 3.0 a reference may have no siblings
        schema = {"allOf": [{"$ref": schema.pop("$ref")}], **schema}
    return schema


# OpenAPI 3.0


def _path_v3(path: Path) -> Object:
    common = _common_parameters(path)
    rendered: Object = {o.method: _operation_v3(o, common) for o in path.operations}
    return rendered | ({"parameters": [_parameter_v3(p) for p in common]} if common else {})


def _operation_v3(operation: Operation, common: Sequence[Parameter]) -> Object:
    schema = {"type": "string"} if operation.answer == "string" else {"$ref": _V3 + operation.answer}
    content = {kind: {"schema": schema} for kind in operation.produces}
    rendered = _common(operation, {"content": content})
    if own := [p for p in operation.parameters if p not in common]:
        rendered["parameters"] = [_parameter_v3(p) for p in own]
    if operation.body:
        body = {"schema": {"$ref": _V3 + operation.body}}
        rendered["requestBody"] = {"content": dict.fromkeys(operation.consumes, body)}
        if operation.method != "delete":
            rendered["requestBody"]["required"] = True
    return rendered


def _parameter_v3(parameter: Parameter) -> Object:
    return _described(parameter) | {"schema": {"type": parameter.type, "uniqueItems": True}}


# Swagger 2.0


def _path_v2(path: Path) -> Object:
    common = _common_parameters(path)
    rendered: Object = {o.method: _operation_v2(o, common) for o in path.operations}
    return rendered | ({"parameters": [_parameter_v2(p) for p in common]} if common else {})


def _operation_v2(operation: Operation, common: Sequence[Parameter]) -> Object:
    schema = {"type": "string"} if operation.answer == "string" else {"$ref": _V2 + operation.answer}
    rendered = _common(operation, {"schema": schema})
    rendered |= {"consumes": list(operation.consumes), "produces": list(operation.produces), "schemes": ["https"]}
    parameters = [_parameter_v2(p) for p in operation.parameters if p not in common]
    if operation.body:
        body = {"in": "body", "name": "body", "schema": {"$ref": _V2 + operation.body}}
        parameters.insert(0, body if operation.method == "delete" else body | {"required": True})
    if parameters:
        rendered["parameters"] = parameters
    return rendered


def _parameter_v2(parameter: Parameter) -> Object:
    return _described(parameter) | {"type": parameter.type, "uniqueItems": True}


# Common to both


def _common_parameters(path: Path) -> list[Parameter]:
    """The parameters of the path, and those that all its operations have."""
    first, *others = path.operations
    shared = [p for p in first.parameters if all(p in other.parameters for other in others)]
    return sorted([*path.parameters, *shared], key=lambda parameter: parameter.name)


def _common(operation: Operation, answer: Object) -> Object:
    responses: Object = {"200": {"description": "OK", **answer}}
    if operation.created:
        responses["201"] = {"description": "Created", **answer}
    if operation.accepted:
        responses["202"] = {"description": "Accepted", **answer}
    gvk = operation.gvk
    rendered = {
        "description": operation.description,
        "operationId": operation.id,
        "tags": [operation.tag or f"{camel_tag(gvk.group)}_{gvk.version}"],
        "responses": responses | {"401": {"description": "Unauthorized"}},
    }
    if operation.action:
        rendered["x-kubernetes-action"] = operation.action
        rendered["x-kubernetes-group-version-kind"] = {"group": gvk.group, "kind": gvk.kind, "version": gvk.version}
    return rendered


def _described(parameter: Parameter) -> Object:
    rendered: Object = {"name": parameter.name, "in": parameter.place, "description": parameter.description}
    return rendered | {"required": True} if parameter.place == "path" else rendered
