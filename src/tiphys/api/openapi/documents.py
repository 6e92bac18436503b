"""The documents: operations and definitions rendered in OpenAPI 3.0 and in Swagger 2.0.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tiphys.api.object import Object
from tiphys.api.openapi.operations import (
    Operation,
    Path,
    base_path,
    group_path,
    paths_of,
    root_path,
    server_paths,
    tag_of,
)
from tiphys.api.openapi.parameters import Parameter
from tiphys.api.openapi.published import V2 as _V2
from tiphys.api.openapi.published import V3 as _V3
from tiphys.api.openapi.published import Definitions, schemas_v2, schemas_v3
from tiphys.api.openapi.shared import share_parameters
from tiphys.api.scheme import Scheme
from tiphys.runtime.version import MAJOR, MINOR

_INFO = {"title": "Kubernetes", "version": f"{MAJOR}.{MINOR}"}
_CUSTOM_INFO = {"title": "Kubernetes CRD Swagger", "version": "v0.1.0"}
_SECURITY = {
    "BearerToken": {
        "type": "apiKey",
        "in": "header",
        "name": "authorization",
        "description": "Bearer Token authentication",
    }
}


def document_names(scheme: Scheme) -> list[str]:
    """What there is under ``/openapi/v3``: ``api/v1``, ``apis/apps``, ``apis/apps/v1``, ``version``."""
    return sorted(_documents(scheme))


def document_v3(scheme: Scheme, definitions: Definitions, name: str) -> Object | None:
    """The OpenAPI 3.0 document of one group and version, of a group, or of one of the server's own paths."""
    paths_in = _documents(scheme).get(name)
    if paths_in is None:
        return None
    paths = paths_in()
    custom = _is_custom(scheme, name)
    schemas = schemas_v3(_mentioned(paths), definitions, None if custom else _api(name))
    return {
        "openapi": "3.0.0",
        "info": _CUSTOM_INFO if custom else _INFO,
        "paths": {path.path: _path_v3(path) for path in paths},
        "components": ({"schemas": schemas} if schemas else {}) | ({} if custom else {"securitySchemes": _SECURITY}),
    }


def _is_custom(scheme: Scheme, name: str) -> bool:
    api = _api(name)
    return api is not None and all(r.custom for r in scheme.resources() if r.group == api[0])


def _api(name: str) -> tuple[str, str] | None:
    """Group and version of a document, if it is that of a version."""
    first, _, rest = name.partition("/")
    group, _, version = rest.rpartition("/")
    return (group, version) if first in ("api", "apis") and version.startswith("v") else None


def document_v2(scheme: Scheme, definitions: Definitions) -> Object:
    """The Swagger 2.0 document of everything that is served."""
    described = [path for _, paths_in in sorted(_documents(scheme).items()) for path in paths_in()]
    paths = {path.path: _path_v2(path) for path in described}
    return {
        "swagger": "2.0",
        "info": _INFO,
        "paths": paths,
        "definitions": schemas_v2(_mentioned(described), definitions),
        "parameters": share_parameters(paths),
        "securityDefinitions": _SECURITY,
        "security": [{"BearerToken": []}],
    }


def _documents(scheme: Scheme) -> dict[str, Callable[[], list[Path]]]:
    """The paths in each document."""
    sources: dict[str, Callable[[], list[Path]]] = {}
    for path in server_paths():
        sources[path.path.strip("/")] = partial(list, (path,))
    builtin = {resource.group for resource in scheme.resources() if resource.builtin}
    for group, versions in scheme.groups().items():
        if group in builtin and group:
            sources[f"apis/{group}"] = partial(_of_group, group)
        for version in versions:
            sources[base_path(group, version).removeprefix("/")] = partial(_of_version, scheme, group, version)
    return sources


def _of_group(group: str) -> list[Path]:
    return [group_path(group)]


def _of_version(scheme: Scheme, group: str, version: str) -> list[Path]:
    served = [r for r in scheme.resources() if r.group == group and version in r.versions]
    roots = [root_path(group, version)] if any(r.builtin for r in served) else []
    return [*roots, *(p for r in served for p in paths_of(r, version))]


def _mentioned(paths: Sequence[Path]) -> set[str]:
    operations = [o for path in paths for o in path.operations]
    return {n for o in operations for n in (o.body, o.answer) if n and n != "string"}


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
    rendered |= {"consumes": list(operation.consumes)} if operation.consumes else {}
    rendered |= {"produces": list(operation.produces), "schemes": ["https"]}
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
        "tags": [operation.tag or tag_of(gvk.group, gvk.version)],
        "responses": responses | {"401": {"description": "Unauthorized"}},
    }
    if operation.action:
        rendered["x-kubernetes-action"] = operation.action
        rendered["x-kubernetes-group-version-kind"] = {"group": gvk.group, "kind": gvk.kind, "version": gvk.version}
    return rendered


def _described(parameter: Parameter) -> Object:
    rendered: Object = {"name": parameter.name, "in": parameter.place, "description": parameter.description}
    return rendered | {"required": True} if parameter.place == "path" else rendered
