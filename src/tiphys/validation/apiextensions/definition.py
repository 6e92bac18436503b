"""CustomResourceDefinition.

Internally, what is the same for all versions stands once, beside them; so it does in the paths of errors: the schema of
the only version is at ``spec.validation.openAPIV3Schema``.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from tiphys.api import fielderrors as field
from tiphys.api.gotext import quote
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.apiextensions.schemas import TYPES, Options, map_keys, validate_schema
from tiphys.validation.apiextensions.shown import version_shown
from tiphys.validation.apiextensions.structural import (
    all_schemas,
    field_path,
    unknown_defaults,
    unsupported,
    validate_structural,
)
from tiphys.validation.shared.common import (
    Errors,
    equal,
    immutable,
    invalid_all,
    name_is_subdomain,
    one_of,
    with_repeats,
)
from tiphys.validation.shared.objectmeta import validate_meta, validate_meta_update
from tiphys.validation.shared.webhook import client_config

APPROVAL = "api-approved.kubernetes.io"
MAX_SELECTABLE_FIELDS = 8
REVIEW_VERSIONS = ("v1", "v1beta1")
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_SHARED = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")


def validate_definition(obj: Object) -> Errors:
    """The errors of a new CustomResourceDefinition."""
    errs: Errors = []
    spec = obj.get("spec") or {}
    wanted = f"{(spec.get('names') or {}).get('plural') or ''}.{spec.get('group') or ''}"

    def named(name: str, *, prefix: bool) -> list[str]:
        problems = name_is_subdomain(name, prefix=prefix)
        return problems if name == wanted else [*problems, 'must be spec.names.plural+"."+spec.group']

    validate_meta(errs, obj, namespaced=False, name_check=named, core=False)
    _spec(errs, spec, Options(), known_review=True, too_many_fields=frozenset())
    _names(errs, (obj.get("status") or {}).get("acceptedNames") or {}, "status.acceptedNames")
    _stored_versions(errs, obj)
    _approval(errs, obj, None)
    _preserve(errs, spec)
    return errs


def validate_definition_update(new: Object, old: Object) -> Errors:
    """The errors of an update of a CustomResourceDefinition; what was stored wrong before stays allowed."""
    errs: Errors = []
    validate_meta_update(errs, new, old, core=False)
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    review = ((before.get("conversion") or {}).get("webhook") or {}).get("conversionReviewVersions") or ()
    known_review = not review or any(version in REVIEW_VERSIONS for version in review)
    _spec(errs, spec, _options(before), known_review=known_review, too_many_fields=_too_many_fields(spec, before))
    if _is_established(old):
        immutable(errs, spec.get("scope"), before.get("scope"), "spec.scope")
        _same_name(errs, spec, before, "kind")
    immutable(errs, spec.get("group"), before.get("group"), "spec.group")
    _same_name(errs, spec, before, "plural")
    _names(errs, (new.get("status") or {}).get("acceptedNames") or {}, "status.acceptedNames")
    _stored_versions(errs, new)
    _approval(errs, new, old)
    if not before.get("preserveUnknownFields"):
        _preserve(errs, spec)
    return errs


def _same_name(errs: Errors, spec: Object, before: Object, key: str) -> None:
    new, old = ((side.get("names") or {}).get(key) or "" for side in (spec, before))
    immutable(errs, new, old, f"spec.names.{key}")


def validate_definition_status_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old, core=False)
    _names(errs, (new.get("status") or {}).get("acceptedNames") or {}, "status.acceptedNames")
    return errs


def _is_established(obj: Object) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions)


def _schemas(spec: Object) -> Iterator[Object]:
    for version in spec.get("versions") or ():
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is not None:
            yield schema


def _options(before: Object) -> Options:
    """What the stored definition does wrong, an update may continue doing."""
    roots = list(_schemas(before))
    every = [schema for root in roots for schema in all_schemas(root)]
    unpruned, keys = list[Any](), list[Any]()
    structural = [root for root in roots if not unsupported(root) and not validate_structural(root, "")]
    for root in structural:
        unknown_defaults(unpruned, root, "")
    for schema in every:
        map_keys(keys, schema, "")
    stored = {
        rule.get(key)
        for schema in every
        for rule in schema.get("x-kubernetes-validations") or ()
        for key in ("rule", "messageExpression")
    }
    return Options(
        valid_types=all((schema.get("type") or TYPES[0]) in TYPES for schema in every),
        structural=len(structural) == len(roots),
        pruned_defaults=not unpruned,
        atomic_sets=not any(_set_of_granular(schema) for schema in every),
        map_keys=not keys,
        stored=frozenset(text for text in stored if text),
    )


def _set_of_granular(schema: Object) -> bool:
    items = schema.get("items")
    if schema.get("x-kubernetes-list-type") != "set" or not isinstance(items, dict):
        return False
    if items.get("type") == "array":
        return items.get("x-kubernetes-list-type") not in (None, "atomic")
    return items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic"


def _too_many_fields(spec: Object, before: Object) -> frozenset[str]:
    """Versions that had too many selectable fields, and have the same ones now."""
    old = {v.get("name"): v.get("selectableFields") for v in before.get("versions") or ()}
    return frozenset(
        v.get("name") or ""
        for v in spec.get("versions") or ()
        if len(old.get(v.get("name")) or ()) > MAX_SELECTABLE_FIELDS
        and equal(v.get("selectableFields"), old.get(v.get("name")))
    )


def _shared(versions: Sequence[Object]) -> Object:
    """What is the same for all versions."""
    if not versions:
        return {}
    first = versions[0]
    return {key: first.get(key) for key in _SHARED if all(equal(v.get(key), first.get(key)) for v in versions)}


def _spec(errs: Errors, spec: Object, options: Options, too_many_fields: frozenset[str], *, known_review: bool) -> None:
    """Validate a definition's group, scope, versions, names and conversion; appends to ``errs``."""
    group, versions = spec.get("group") or "", spec.get("versions") or []
    if not group:
        errs.append(field.required("spec.group"))
    elif problems := names.dns1123_subdomain(group):
        errs.append(field.invalid("spec.group", group, ",".join(problems)))
    elif "." not in group:
        errs.append(field.invalid("spec.group", group, "should be a domain with at least one dot"))
    if not spec.get("scope"):
        errs.append(field.required("spec.scope"))
    else:
        one_of(errs, spec["scope"], "spec.scope", ("Cluster", "Namespaced"))
    preserve = bool(spec.get("preserveUnknownFields"))
    for i, version in enumerate(versions):
        if (version.get("schema") or {}).get("openAPIV3Schema") is None:
            errs.append(field.required(f"spec.versions[{i}].schema.openAPIV3Schema"))
    if preserve and any(s.get("default") is not None for root in _schemas(spec) for s in all_schemas(root)):
        text = "must be false in order to use defaults in the schema"
        errs.append(field.invalid("spec.preserveUnknownFields", True, text))
    shared = _shared(versions)
    for i, version in enumerate(versions):
        name, at = version.get("name") or "", f"spec.versions[{i}]"
        if problems := names.dns1035_label(name):
            errs.append(field.invalid(f"{at}.name", name, ",".join(problems)))
        _deprecation(errs, version, f"{at}.deprecationWarning")
        own = {key: version.get(key) for key in _SHARED if key not in shared}
        has_status = _has_status(version)
        _parts(errs, own, at, f"{at}.schema", has_status=has_status, options=options, too_many=name in too_many_fields)
    named = [version.get("name") or "" for version in versions]
    if len(set(named)) < len(named):
        errs.append(
            field.invalid("spec.versions", _shown(spec.get("versions"), shared), "must contain unique version names")
        )
    if sum(bool(version.get("storage")) for version in versions) != 1:
        text = "must have exactly one version marked as storage version"
        errs.append(field.invalid("spec.versions", _shown(spec.get("versions"), shared), text))
    if named and named[0] and (problems := names.dns1035_label(named[0])):
        errs.append(field.invalid("spec.version", named[0], ",".join(problems)))
    given = spec.get("names") or {}
    for key in ("plural", "singular", "kind", "listKind"):
        if not given.get(key):
            errs.append(field.required(f"spec.names.{key}"))
    _names(errs, given, "spec.names")
    any_status = any(_has_status(version) for version in versions)
    _parts(
        errs, shared, "spec", "spec.validation", has_status=any_status, options=options, too_many=bool(too_many_fields)
    )
    _conversion(errs, spec.get("conversion"), preserve=preserve, known_review=known_review)


def _shown(versions: Sequence[Object] | None, shared: Object) -> list[Object] | None:
    return None if versions is None else [version_shown(version, shared) for version in versions]


def _has_status(version: Object) -> bool:
    return (version.get("subresources") or {}).get("status") is not None


def _deprecation(errs: Errors, version: Object, path: str) -> None:
    warning = version.get("deprecationWarning")
    if warning is None:
        return
    problems = []
    if not version.get("deprecated"):
        problems.append("can only be set for deprecated versions")
    else:
        if names.byte_length(warning) > 256:
            problems.append("must be <= 256 characters long")
        if not warning:
            problems.append("must not be an empty string")
        for i, character in enumerate(warning):
            if not character.isprintable():
                at = names.byte_length(warning[:i])
                text = "must only contain printable UTF-8 characters; non-printable character found at index"
                problems.append(f"{text} {at}")
                break
    invalid_all(errs, path, warning, problems)


def _parts(
    errs: Errors, parts: Object, path: str, schema_path: str, options: Options, *, has_status: bool, too_many: bool
) -> None:
    """Schema, subresources, columns and selectable fields, of a version or of all."""
    schema = (parts.get("schema") or {}).get("openAPIV3Schema")
    if schema is not None:
        validate_schema(errs, schema, schema_path, has_status=has_status, options=options)
    _subresources(errs, parts.get("subresources") or {}, f"{path}.subresources")
    for i, column in enumerate(parts.get("additionalPrinterColumns") or ()):
        _column(errs, column, f"{path}.additionalPrinterColumns[{i}]")
    fields, at = parts.get("selectableFields"), f"{path}.selectableFields"
    if not fields:
        return
    if schema is None:
        text = "may only be set when `version.schema.openAPIV3Schema` is not included"
        if path == "spec":
            text = "may only be set when validations.schema is included"
        errs.append(field.invalid(at, "", text))
    elif problem := unsupported(schema):
        errs.append(field.invalid(f"{path}.schema.openAPIV3Schema", "", problem))
    else:
        _selectable_fields(errs, fields, schema, at, too_many=too_many)


def _selectable_fields(errs: Errors, fields: Sequence[Object], schema: Object, path: str, *, too_many: bool) -> None:
    """Validate selectable fields: unique paths to scalars outside metadata. Appends to ``errs``."""
    seen: set[tuple[str, ...]] = set()
    for i, selectable in enumerate(fields):
        text, at = selectable.get("jsonPath") or "", f"{path}[{i}].jsonPath"
        if not text:
            errs.append(field.required(at))
            continue
        problem, on_the_way, target = field_path(text, schema, brackets=False)
        if problem:
            errs.append(field.invalid(at, text, f"is an invalid path: {problem}"))
            continue
        if on_the_way[0] == "metadata":
            errs.append(field.invalid(at, text, "must not point to fields in metadata"))
        if target.get("type") not in ("string", "boolean", "integer"):
            message = (
                "must point to a field of type string, boolean or integer. "
                "Enum string fields and strings with formats are allowed."
            )
            errs.append(field.invalid(at, text, message))
        if tuple(on_the_way) in seen:
            errs.append(field.duplicate(at, text))
        seen.add(tuple(on_the_way))
    if len(seen) > MAX_SELECTABLE_FIELDS and not too_many:
        errs.append(field.too_many(path, len(seen), MAX_SELECTABLE_FIELDS))


def _subresources(errs: Errors, subresources: Object, path: str) -> None:
    scale = subresources.get("scale")
    if scale is None:
        return
    for key, start in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        text, at = scale.get(key) or "", f"{path}.scale.{key}"
        if not text:
            errs.append(field.required(at))
        elif _simple_path(errs, text, at) and not text.startswith(start):
            errs.append(field.invalid(at, text, f"should be a json path under {start[:-1]}"))
    text, at = scale.get("labelSelectorPath"), f"{path}.scale.labelSelectorPath"
    if text and _simple_path(errs, text, at) and not text.startswith((".spec.", ".status.")):
        errs.append(field.invalid(at, text, "should be a json path under either .spec or .status"))


def _simple_path(errs: Errors, text: str, path: str) -> bool:
    if text.startswith("."):
        return True
    errs.append(field.invalid(path, text, "must be a simple json path starting with ."))
    return False


def _column(errs: Errors, column: Object, path: str) -> None:
    if not column.get("name"):
        errs.append(field.required(f"{path}.name"))
    kind, form, where = column.get("type") or "", column.get("format") or "", column.get("jsonPath") or ""
    text = f"must be one of {','.join(_COLUMN_TYPES)}"
    if not kind:
        errs.append(field.required(f"{path}.type", text))
    elif kind not in _COLUMN_TYPES:
        errs.append(field.invalid(f"{path}.type", kind, text))
    if form and form not in _COLUMN_FORMATS:
        errs.append(field.invalid(f"{path}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}"))
    if not where:
        errs.append(field.required(f"{path}.JSONPath"))
    else:
        _simple_path(errs, where, f"{path}.JSONPath")


def _names(errs: Errors, declared: Object, path: str) -> None:
    for key in ("plural", "singular"):
        if declared.get(key) and (problems := names.dns1035_label(declared[key])):
            errs.append(field.invalid(f"{path}.{key}", declared[key], ",".join(problems)))
    for key in ("kind", "listKind"):
        if declared.get(key) and (problems := names.dns1035_label(declared[key].lower())):
            text = f"may have mixed case, but should otherwise match: {','.join(problems)}"
            errs.append(field.invalid(f"{path}.{key}", declared[key], text))
    _labels(errs, declared.get("shortNames") or (), f"{path}.shortNames")
    if declared.get("kind") and declared["kind"] == declared.get("listKind"):
        errs.append(field.invalid(f"{path}.listKind", declared["listKind"], "kind and listKind may not be the same"))
    _labels(errs, declared.get("categories") or (), f"{path}.categories")


def _labels(errs: Errors, labels: Sequence[str], path: str) -> None:
    for i, name in enumerate(labels):
        if problems := names.dns1035_label(name):
            errs.append(field.invalid(f"{path}[{i}]", name, ",".join(problems)))


def _conversion(errs: Errors, conversion: Object | None, *, preserve: bool, known_review: bool) -> None:
    """Validate the conversion: a webhook with its client, or neither. Appends to ``errs``."""
    if conversion is None:
        return
    strategy, at = conversion.get("strategy") or "", "spec.conversion"
    if strategy != "None" and preserve:
        text = "must be None if spec.preserveUnknownFields is true"
        errs.append(field.invalid(f"{at}.strategy", strategy, text))
    if not strategy:
        errs.append(field.required(f"{at}.strategy"))
    else:
        one_of(errs, strategy, f"{at}.strategy", ("None", "Webhook"))
    webhook = conversion.get("webhook") or {}
    client, versions = webhook.get("clientConfig"), webhook.get("conversionReviewVersions") or []
    if strategy != "Webhook":
        text = "should not be set when strategy is not set to Webhook"
        if client is not None:
            errs.append(field.forbidden(f"{at}.webhookClientConfig", text))
        if versions:
            errs.append(field.forbidden(f"{at}.conversionReviewVersions", text))
        return
    if client is None:
        errs.append(field.required(f"{at}.webhookClientConfig", "required when strategy is set to Webhook"))
    else:
        client_config(errs, client, f"{at}.webhookClientConfig")
    _review_versions(errs, versions, known=known_review, path=f"{at}.conversionReviewVersions")


def _review_versions(errs: Errors, versions: Sequence[str], path: str, *, known: bool) -> None:
    if not versions:
        errs.append(field.required(path))
        return
    for i, version, repeated in with_repeats(versions):
        if repeated:
            errs.append(field.invalid(f"{path}[{i}]", version, "duplicate version"))
        else:
            invalid_all(errs, f"{path}[{i}]", version, names.dns1035_label(version))
    if known and not any(version in REVIEW_VERSIONS for version in versions):
        text = f"must include at least one of {', '.join(REVIEW_VERSIONS)}"
        errs.append(field.invalid(path, versions, text))


def _stored_versions(errs: Errors, obj: Object) -> None:
    stored, at = (obj.get("status") or {}).get("storedVersions"), "status.storedVersions"
    if not stored:
        errs.append(field.invalid(at, stored, "must have at least one stored version"))
        return
    left = {version: i for i, version in enumerate(stored)}
    for version in (obj.get("spec") or {}).get("versions") or ():
        name = version.get("name") or ""
        if version.get("storage") and name not in left:
            errs.append(field.invalid(at, stored, f"must have the storage version {name}"))
        left.pop(name, None)
    for name, i in left.items():
        text = (
            f"missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions "
            f"until a storage migration ensures no data remains persisted in {name} and removes {name} from "
            "status.storedVersions"
        )
        errs.append(field.invalid(f"{at}[{i}]", name, text))


def _approval(errs: Errors, obj: Object, old: Object | None) -> None:
    """Groups of the project itself need its consent, by an annotation."""
    if not is_protected(obj):
        return
    state = approval_state(obj)
    if old is not None and approval_state(old) == state:
        return
    at, needed = (
        f"metadata.annotations[{APPROVAL}]",
        f"protected groups must have approval annotation {quote(APPROVAL)}",
    )
    see = "see https://github.com/kubernetes/enhancements/pull/1111"
    if state == "missing":
        errs.append(field.required(at, f"{needed}, {see}"))
    elif state == "invalid":
        text = f'{needed} with either a URL or a reason starting with "unapproved", {see}'
        errs.append(field.invalid(at, (obj["metadata"]["annotations"])[APPROVAL], text))


def is_protected(obj: Object) -> bool:
    """Whether the group is one of the project's own."""
    group = (obj.get("spec") or {}).get("group") or ""
    return f".{group}".endswith((".k8s.io", ".kubernetes.io"))


def approval_state(obj: Object) -> str:
    """``missing``, ``bypassed``, ``approved`` or ``invalid``."""
    text = ((obj.get("metadata") or {}).get("annotations") or {}).get(APPROVAL) or ""
    if not text:
        return "missing"
    if text.startswith("unapproved"):
        return "bypassed"
    try:
        parts = urlsplit(text)
    except ValueError:
        return "invalid"
    return "approved" if parts.scheme and parts.netloc else "invalid"


def _preserve(errs: Errors, spec: Object) -> None:
    if spec.get("preserveUnknownFields"):
        text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        errs.append(field.invalid("spec.preserveUnknownFields", True, text))
