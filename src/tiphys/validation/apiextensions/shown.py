"""Parts of a definition as messages show them: as JSON of upstream's version-less types, empty fields and all.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.meta.copying import copy
from tiphys.api.object import Object

_SCHEMA = (
    "ID Schema=$schema Ref=$ref Description Type Nullable Format Title Default Maximum ExclusiveMaximum Minimum"
    " ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Enum MaxProperties"
    " MinProperties Required Items AllOf OneOf AnyOf Not Properties AdditionalProperties PatternProperties Dependencies"
    " AdditionalItems Definitions ExternalDocs Example XPreserveUnknownFields=x-kubernetes-preserve-unknown-fields"
    " XEmbeddedResource=x-kubernetes-embedded-resource XIntOrString=x-kubernetes-int-or-string"
    " XListMapKeys=x-kubernetes-list-map-keys XListType=x-kubernetes-list-type XMapType=x-kubernetes-map-type"
    " XValidations=x-kubernetes-validations"
)
_TEXTS = frozenset(("ID", "Schema", "Description", "Type", "Format", "Title", "Pattern"))
_FLAGS = frozenset(
    ("Nullable", "ExclusiveMaximum", "ExclusiveMinimum", "UniqueItems", "XEmbeddedResource", "XIntOrString")
)
_LISTS = frozenset(("AllOf", "OneOf", "AnyOf"))
_MAPS = frozenset(("Properties", "PatternProperties", "Definitions"))
_COLUMN = ("Name", "Type", "Format", "Description", "Priority", "JSONPath")


def _wire(name: str) -> tuple[str, str]:
    own, _, wire = name.partition("=")
    return own, wire or ("id" if own == "ID" else own[0].lower() + own[1:])


_FIELDS = tuple(_wire(name) for name in _SCHEMA.split())


def schema_shown(schema: Object | None) -> Object | None:
    if schema is None:
        return None
    return {name: _field(name, schema.get(wire)) for name, wire in _FIELDS}


def _field(name: str, value: Any) -> Any:
    """One field of a schema in the form of upstream's internal type."""
    if name in _TEXTS:
        return value or ""
    if name in _FLAGS:
        return bool(value)
    if value is None or value == []:
        return None
    if name in _LISTS:
        return [schema_shown(item) for item in value]
    if name in _MAPS:
        return {key: schema_shown(value[key]) for key in sorted(value)}
    if name == "Not":
        return schema_shown(value)
    if name == "Items":
        is_list = isinstance(value, list)
        items = [schema_shown(item) for item in value] if is_list else None
        return {"Schema": None if is_list else schema_shown(value), "JSONSchemas": items}
    if name in ("AdditionalProperties", "AdditionalItems"):
        is_schema = isinstance(value, dict)
        return {"Allows": is_schema or value, "Schema": schema_shown(value) if is_schema else None}
    if name == "Dependencies":
        return {key: _dependency(value[key]) for key in sorted(value)}
    if name == "ExternalDocs":
        return {"Description": value.get("description") or "", "URL": value.get("url") or ""}
    if name == "XValidations":
        return [rule_shown(rule) for rule in value]
    return _sorted(copy(value))


def _dependency(value: Any) -> Object:
    if isinstance(value, list):
        return {"Schema": None, "Property": value}
    return {"Schema": schema_shown(value), "Property": None}


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def rule_shown(rule: Mapping[str, Any]) -> Object:
    texts = {name: rule.get(name[0].lower() + name[1:]) or "" for name in ("Rule", "Message", "MessageExpression")}
    path, optional = rule.get("fieldPath") or "", rule.get("optionalOldSelf")
    return {**texts, "Reason": rule.get("reason"), "FieldPath": path, "OptionalOldSelf": optional}


def version_shown(version: Object, shared: Object) -> Object:
    """``shared``: what all versions have in common stands elsewhere."""
    own = {key: value for key, value in version.items() if key not in shared}
    schema = own.get("schema")
    columns, fields = own.get("additionalPrinterColumns") or None, own.get("selectableFields") or None
    return {
        "Name": version.get("name") or "",
        "Served": bool(version.get("served")),
        "Storage": bool(version.get("storage")),
        "Deprecated": bool(version.get("deprecated")),
        "DeprecationWarning": version.get("deprecationWarning"),
        "Schema": None if schema is None else {"OpenAPIV3Schema": schema_shown(schema.get("openAPIV3Schema"))},
        "Subresources": _subresources(own.get("subresources")),
        "AdditionalPrinterColumns": columns and [_column(column) for column in columns],
        "SelectableFields": fields and [{"JSONPath": field.get("jsonPath") or ""} for field in fields],
    }


def _subresources(subresources: Object | None) -> Object | None:
    if subresources is None:
        return None
    scale = subresources.get("scale")
    shown = None
    if scale is not None:
        spec, status = scale.get("specReplicasPath") or "", scale.get("statusReplicasPath") or ""
        selector = scale.get("labelSelectorPath")
        shown = {"SpecReplicasPath": spec, "StatusReplicasPath": status, "LabelSelectorPath": selector}
    return {"Status": None if subresources.get("status") is None else {}, "Scale": shown}


def _column(column: Object) -> Object:
    empty = {"Priority": 0}
    wire = {"JSONPath": "jsonPath"}
    return {name: column.get(wire.get(name, name.lower())) or empty.get(name, "") for name in _COLUMN}
