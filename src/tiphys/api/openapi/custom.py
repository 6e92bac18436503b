"""Definitions of custom resources, from the schemas in their CustomResourceDefinitions.

Swagger 2.0 knows less than OpenAPI 3.0: logical parts and nullable fields are left out of it, and a resource that keeps
unknown fields is any object, as clients would otherwise refuse what they do not find.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition
"""

from __future__ import annotations

from typing import Any

from tiphys.api.definitions import description
from tiphys.api.object import Object
from tiphys.api.openapi.operations import META
from tiphys.api.scheme import Resource, Scheme

_KIND, _LIST = "io.k8s.api.core.v1.Pod", "io.k8s.api.core.v1.PodList"
"""A built-in kind and its list: what all kinds have is described in the same words."""
_PRESERVE, _EMBEDDED = "x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"
_NOT_IN_V2 = ("allOf", "anyOf", "oneOf", "not", "default")
_CONVENTIONS = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"

_TYPE_OF_EMBEDDED = {
    "apiVersion": {
        "type": "string",
        "description": "apiVersion defines the versioned schema of this representation of an object."
        f" More info: {_CONVENTIONS}#resources",
    },
    "kind": {
        "type": "string",
        "description": "kind is a string value representing the type of this object. In CamelCase."
        f" More info: {_CONVENTIONS}#types-kinds",
    },
}


def custom_definitions(scheme: Scheme, *, for_v2: bool) -> dict[str, Object]:
    """By name; references in them are those of the published ones."""
    schemas: dict[str, Object] = {}
    for resource in scheme.resources():
        for version in resource.versions if resource.custom else ():
            name = resource.definitions[version]
            schemas[name] = _kind(resource, version, for_v2=for_v2)
            schemas[f"{name}List"] = _list(resource, version)
    return schemas


def _kind(resource: Resource, version: str, *, for_v2: bool) -> Object:
    schema = resource.custom[version].structural
    if schema is None or (for_v2 and schema.get(_PRESERVE)):
        return {"type": "object", **_marked(resource.kind, resource, version)}
    shown = _plain(schema) if for_v2 else schema
    shown = {**shown, "properties": {**(shown.get("properties") or {}), **_implied(_KIND, "ObjectMeta")}}
    return {**_with_embedded(shown, for_v2=for_v2), **_marked(resource.kind, resource, version)}


def _marked(kind: str, resource: Resource, version: str) -> Object:
    """What stands beside the schema of a kind or its list: what it is of, and what it can be selected by."""
    marks: Object = {"x-kubernetes-group-version-kind": [{"group": resource.group, "version": version, "kind": kind}]}
    if selectable := resource.custom[version].selectable:
        marks["x-kubernetes-selectable-fields"] = [{"fieldPath": path.removeprefix(".")} for path in selectable]
    return marks


def _implied(described: str, metadata: str) -> Object:
    fields: Object = {
        name: {"type": "string", "description": description(described, name)} for name in ("apiVersion", "kind")
    }
    fields["metadata"] = {"$ref": f"#/$defs/{META}.{metadata}", "description": description(described, "metadata")}
    return fields


def _list(resource: Resource, version: str) -> Object:
    item = {"$ref": f"#/$defs/{resource.definitions[version]}"}
    items = {"type": "array", "items": item, "description": f"List of {resource.plural}. More info: {_CONVENTIONS}"}
    return {
        "type": "object",
        "description": f"{resource.list_kind} is a list of {resource.kind}",
        "required": ["items"],
        "properties": {**_implied(_LIST, "ListMeta"), "items": items},
        **_marked(resource.list_kind, resource, version),
    }


def _plain(schema: Object) -> Object:
    """Without what Swagger 2.0 cannot say."""
    plain = {key: value for key, value in schema.items() if key not in _NOT_IN_V2}
    if plain.pop("nullable", False) or plain.get(_PRESERVE):
        for key in ("type", "items", "properties"):
            plain.pop(key, None)
    return _inside(plain, _plain)


def _with_embedded(schema: Object, *, for_v2: bool) -> Object:
    """Resources inside others have the fields of every resource."""
    expanded = _inside(schema, lambda inner: _with_embedded(inner, for_v2=for_v2))
    if expanded.get("x-kubernetes-int-or-string") and not for_v2:
        expanded.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    if expanded.get(_EMBEDDED) and not (for_v2 and expanded.get(_PRESERVE)):
        expanded["properties"] = {
            **(expanded.get("properties") or {}),
            **_implied(_KIND, "ObjectMeta"),
            **_TYPE_OF_EMBEDDED,
        }
        expanded["required"] = [*(expanded.get("required") or []), "kind", "apiVersion"]
    return expanded


def _inside(schema: Object, change: Any) -> Object:
    """A copy with every schema in it changed."""
    changed = dict(schema)
    if "properties" in changed:
        changed["properties"] = {name: change(inner) for name, inner in changed["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(changed.get(key), dict):
            changed[key] = change(changed[key])
    return changed
