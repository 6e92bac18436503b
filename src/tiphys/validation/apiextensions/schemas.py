"""The schema of a custom resource: which of OpenAPI v3's words it may use, and how the extensions go together.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as member

from tiphys.api import fielderrors as field
from tiphys.api.object import Object
from tiphys.validation.apiextensions.defaults import validate_defaults
from tiphys.validation.apiextensions.rules import SchemaPlace as RulesPlace
from tiphys.validation.apiextensions.rules import Total, check_rules
from tiphys.validation.apiextensions.shown import schema_shown
from tiphys.validation.apiextensions.structural import (
    EMBEDDED,
    PRESERVE,
    field_path,
    unsupported,
    validate_structural,
)
from tiphys.validation.shared.common import (
    Errors,
    with_repeats,
)

TYPES = ("array", "boolean", "integer", "number", "object", "string")
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_LIST_TYPE, _MAP_TYPE = "x-kubernetes-list-type", "x-kubernetes-map-type"
_KEYS, _RULES = "x-kubernetes-list-map-keys", "x-kubernetes-validations"
_ROOT = (
    "Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern "
    "MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields "
    "XValidations"
)
_ROOT_WIRE = frozenset(name[0].lower() + name[1:] for name in _ROOT.split()) | {PRESERVE, _RULES}


@dataclass(frozen=True, slots=True)
class Options:
    """What an update may keep, because an older server let it through."""

    valid_types: bool = True
    structural: bool = True
    pruned_defaults: bool = True
    atomic_sets: bool = True
    map_keys: bool = True
    stored: Collection[str] = member(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the schema we are."""

    no_defaults: str | None = None
    """Why no defaults may be set here."""
    in_meta: bool = False
    rules: RulesPlace | None = None
    """Rules are only compiled if the schema is structural."""

    def below(self, parent: Object) -> _Place:
        return self if self.rules is None else replace(self, rules=self.rules.below(parent))

    def in_list(self, parent: Object, path: str) -> _Place:
        return self if self.rules is None else replace(self, rules=self.rules.in_list(parent, path))


def validate_schema(errs: Errors, schema: Object, path: str, options: Options, *, has_status: bool) -> None:
    """The schema of a version; ``path`` is that of the object around it."""
    errors: Errors = []
    at, late = f"{path}.openAPIV3Schema", list[field.FieldError]()
    if has_status:
        _root_fields(errors, schema, at)
    if schema.get("nullable"):
        errors.append(field.forbidden(f"{at}.nullable", "nullable cannot be true at the root"))
    structural = False
    if options.structural:
        if problem := unsupported(schema):
            late.append(field.invalid(at, "", problem))
        else:
            wrong = validate_structural(schema, at)
            if not wrong:
                wrong = validate_defaults(schema, at, pruned=options.pruned_defaults)
            structural = not wrong
            errors += wrong
    cel: Errors = []
    total = Total()
    _schema(errors, cel, schema, at, options, _Place(rules=RulesPlace(total) if structural else None), is_root=True)
    errors += cel
    total.check(errors, at)
    errs += errors or late


def _root_fields(errs: Errors, schema: Object, path: str) -> None:
    for name, value in schema.items():
        if value in (None, "", []) or value is False or (value == {} and name != "default"):
            continue
        if name == "type":
            if value != "object":
                text = (
                    'only "object" is allowed as the type at the root of the schema if the status subresource is '
                    "enabled"
                )
                errs.append(field.invalid(f"{path}.type", value, text))
                return
        elif name not in _ROOT_WIRE:
            text = f"only [{_ROOT}] fields are allowed at the root of the schema if the status subresource is enabled"
            errs.append(field.invalid(path, schema_shown(schema), text))
            return


def _schema(
    errs: Errors, cel: Errors, schema: Object, path: str, options: Options, place: _Place, *, is_root: bool = False
) -> None:
    """Validate a schema node and everything below it; CEL's errors go to ``cel``."""
    before = len(errs)
    _words(errs, schema, path, options, place)
    if schema.get("uniqueItems"):
        text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        errs.append(field.forbidden(f"{path}.uniqueItems", text))
    additional, properties = schema.get("additionalProperties"), schema.get("properties") or {}
    if additional is not None:
        if properties and additional is not True:
            text = "additionalProperties and properties are mutual exclusive"
            errs.append(field.forbidden(f"{path}.additionalProperties", text))
        if isinstance(additional, dict):
            inner = place.below(schema)
            if place.in_meta:
                inner = replace(inner, no_defaults=" inside additionalProperties applying to object metadata")
            _schema(errs, cel, additional, f"{path}.additionalProperties", options, inner)
    for name, inner_schema in properties.items():
        inner = place.below(schema)
        if (is_root or schema.get(EMBEDDED)) and name in ("metadata", "kind", "apiVersion"):
            inner = replace(inner, in_meta=True)
            if is_root:
                inner = replace(inner, no_defaults=f" in top-level {name}")
        _schema(errs, cel, inner_schema, f"{path}.properties[{name}]", options, inner)
    _logical(errs, cel, schema, path, options, place)
    items, inner = schema.get("items"), place.in_list(schema, path)
    if isinstance(items, dict):
        _schema(errs, cel, items, f"{path}.items", options, inner)
    elif isinstance(items, list):
        for i, inner_schema in enumerate(items):
            _schema(errs, cel, inner_schema, f"{path}.items[{i}]", options, inner)
    if schema.get(PRESERVE) is False:
        errs.append(field.invalid(f"{path}.{PRESERVE}", False, "must be true or undefined"))
    _list_and_map(errs, schema, path, options)
    _rules(errs, cel, schema, path, place, before)


def _logical(errs: Errors, cel: Errors, schema: Object, path: str, options: Options, place: _Place) -> None:
    """Schemas in which rules are not compiled."""
    inner = replace(place, rules=None)
    if schema.get("not") is not None:
        _schema(errs, cel, schema["not"], f"{path}.not", options, inner)
    for key in ("allOf", "oneOf", "anyOf"):
        for i, child in enumerate(schema.get(key) or ()):
            _schema(errs, cel, child, f"{path}.{key}[{i}]", options, inner)
    for name, child in (schema.get("definitions") or {}).items():
        _schema(errs, cel, child, f"{path}.definitions[{name}]", options, inner)
    for name, child in (schema.get("dependencies") or {}).items():
        if isinstance(child, dict):
            _schema(errs, cel, child, f"{path}.dependencies[{name}]", options, inner)


def _words(errs: Errors, schema: Object, path: str, options: Options, place: _Place) -> None:
    """Refuse words of OpenAPI that custom resources may not use; appends to ``errs``."""
    kind = schema.get("type") or ""
    if options.valid_types and kind and kind not in TYPES:
        errs.append(field.not_supported(f"{path}.type", kind, TYPES))
    if schema.get("default") is not None and place.no_defaults is not None:
        errs.append(field.forbidden(f"{path}.default", f"must not be set{place.no_defaults}"))
    if schema.get("id"):
        errs.append(field.forbidden(f"{path}.id", "id is not supported"))
    if schema.get("additionalItems") is not None:
        errs.append(field.forbidden(f"{path}.additionalItems", "additionalItems is not supported"))
    for key in ("patternProperties", "definitions"):
        if schema.get(key):
            errs.append(field.forbidden(f"{path}.{key}", f"{key} is not supported"))
    for key in ("dependencies", "$ref"):
        if schema.get(key) is not None:
            errs.append(field.forbidden(f"{path}.{key}", f"{key} is not supported"))
    if kind == "null":
        text = "type cannot be set to null, use nullable as an alternative"
        errs.append(field.forbidden(f"{path}.type", text))
    if isinstance(schema.get("items"), list):
        errs.append(field.forbidden(f"{path}.items", "items must be a schema object and not an array"))
    if place.in_meta and schema.get(EMBEDDED):
        errs.append(field.forbidden(f"{path}.{EMBEDDED}", "must not be used inside of resource meta"))


def _of_type(errs: Errors, schema: Object, wanted: str, because: str, path: str) -> bool:
    kind, text = schema.get("type") or "", f"must be {wanted} if {because} is specified"
    if kind == wanted:
        return True
    if not kind:
        errs.append(field.required(f"{path}.type", text))
    else:
        errs.append(field.invalid(f"{path}.type", kind, text))
    return False


def _list_and_map(errs: Errors, schema: Object, path: str, options: Options) -> None:
    """Validate list and map types and their keys; appends to ``errs``."""
    map_type, list_type, keys = schema.get(_MAP_TYPE), schema.get(_LIST_TYPE), schema.get(_KEYS) or []
    items = schema.get("items")
    if map_type is not None:
        _of_type(errs, schema, "object", _MAP_TYPE, path)
        if map_type not in ("atomic", "granular"):
            errs.append(field.not_supported(f"{path}.{_MAP_TYPE}", map_type, ("atomic", "granular")))
    if list_type is not None:
        is_array = _of_type(errs, schema, "array", _LIST_TYPE, path)
        if is_array and options.atomic_sets and list_type == "set" and isinstance(items, dict):
            _set_items(errs, items, f"{path}.items")
        if list_type not in ("atomic", "set", "map"):
            errs.append(field.not_supported(f"{path}.{_LIST_TYPE}", list_type, ("atomic", "set", "map")))
    if keys:
        text = f"must be map if {_KEYS} is non-empty"
        if list_type is None:
            errs.append(field.required(f"{path}.{_LIST_TYPE}", text))
        elif list_type != "map":
            errs.append(field.invalid(f"{path}.{_LIST_TYPE}", list_type, text))
    if list_type == "map":
        _map_list(errs, schema, path)
    if options.map_keys:
        map_keys(errs, schema, path)


def _set_items(errs: Errors, items: Object, path: str) -> None:
    text = f"must be atomic as item of a list with {_LIST_TYPE}=set"
    if items.get("type") == "array" and items.get(_LIST_TYPE) not in (None, "atomic"):
        errs.append(field.invalid(f"{path}.{_LIST_TYPE}", items[_LIST_TYPE], text))
    if items.get("type") == "object" and items.get(_MAP_TYPE) != "atomic":
        errs.append(field.invalid(f"{path}.{_MAP_TYPE}", items.get(_LIST_TYPE), text))


def _map_list(errs: Errors, schema: Object, path: str) -> None:
    """Validate a list of type map: its keys are scalar properties of its items. Appends to ``errs``."""
    keys, items = schema.get(_KEYS) or [], schema.get("items")
    if not keys:
        errs.append(field.required(f"{path}.{_KEYS}", f"must not be empty if {_LIST_TYPE} is map"))
    if items is None:
        errs.append(field.required(f"{path}.items", f"must have a schema if {_LIST_TYPE} is map"))
        return
    if not isinstance(items, dict):
        errs.append(field.invalid(f"{path}.items", items, f"must only have a single schema if {_LIST_TYPE} is map"))
        return
    kind = items.get("type") or ""
    if kind != "object":
        text = f"must be object if parent array's {_LIST_TYPE} is map"
        errs.append(field.invalid(f"{path}.items.type", kind, text))
        return
    known = items.get("properties") or {}
    for _, key, repeated in with_repeats(keys):
        if key not in known:
            errs.append(field.invalid(f"{path}.{_KEYS}", keys, "entries must all be names of item properties"))
        elif known[key].get("type") in ("array", "object"):
            text = f"must be a scalar type if parent array's {_LIST_TYPE} is map"
            errs.append(field.invalid(f"{path}.items.properties[{key}].type", kind, text))
        if repeated:
            errs.append(field.invalid(f"{path}.{_KEYS}", keys, "must not contain duplicate entries"))


def map_keys(errs: Errors, schema: Object, path: str) -> None:
    """What identifies an item of a list is there in every item."""
    items, list_type = schema.get("items"), schema.get(_LIST_TYPE)
    if not isinstance(items, dict) or list_type not in ("set", "map"):
        return
    if items.get("nullable"):
        text = f"cannot be nullable when {_LIST_TYPE} is {list_type}"
        errs.append(field.forbidden(f"{path}.items.nullable", text))
    if list_type == "set":
        return
    required, known = items.get("required") or (), items.get("properties") or {}
    for key in schema.get(_KEYS) or ():
        prop = known.get(key)
        if prop is None:
            continue
        at, this = f"{path}.items.properties[{key}]", f"this property is in {_KEYS}, so it"
        if key not in required and prop.get("default") is None:
            errs.append(field.required(f"{at}.default", f"{this} must have a default or be a required property"))
        if prop.get("nullable"):
            errs.append(field.forbidden(f"{at}.nullable", f"{this} cannot be nullable"))


def _rules(errs: Errors, cel: Errors, schema: Object, path: str, place: _Place, before: int) -> None:
    """``before``: how many errors there were already, outside this part of the schema."""
    rules = schema.get(_RULES) or ()
    for i, rule in enumerate(rules):
        _rule(errs, rule, schema, f"{path}.{_RULES}[{i}]")
    if rules and len(errs) == before and place.rules is not None:
        check_rules(cel, schema, path, place.rules)


def _has_line_break(text: str) -> bool:
    return "\n" in text or "\r" in text


def _rule(errs: Errors, rule: Mapping[str, str], schema: Object, path: str) -> None:
    """Validate a rule's texts, reason and field path, not its expression; appends to ``errs``."""
    text, message = (rule.get("rule") or "").strip(), rule.get("message") or ""
    if not text:
        errs.append(field.required(f"{path}.rule", "rule is not specified"))
    elif message and not message.strip():
        errs.append(field.invalid(f"{path}.message", message, "must be non-empty if specified"))
    elif _has_line_break(message.strip()):
        errs.append(field.invalid(f"{path}.message", message, "must not contain line breaks"))
    elif _has_line_break(text) and not message:
        wording = "message must be specified if rule contains line breaks"
        errs.append(field.required(f"{path}.message", wording))
    expression = rule.get("messageExpression") or ""
    if expression and not expression.strip():
        wording = "messageExpression must be non-empty if specified"
        errs.append(field.required(f"{path}.messageExpression", wording))
    reason = rule.get("reason")
    if reason is not None and reason not in _REASONS:
        errs.append(field.not_supported(f"{path}.reason", reason, _REASONS))
    where = rule.get("fieldPath") or ""
    if where:
        if not where.strip():
            errs.append(field.invalid(f"{path}.fieldPath", where, "must be non-empty if specified"))
        if _has_line_break(where):
            errs.append(field.invalid(f"{path}.fieldPath", where, "must not contain line breaks"))
        if not unsupported(schema) and field_path(where, schema)[0]:
            errs.append(field.invalid(f"{path}.fieldPath", where, "must be a valid path"))
