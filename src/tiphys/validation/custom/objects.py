"""Whether a custom resource is what its definition says: metadata, schema, scale, embedded resources, lists.

The checks are made in this order; rules in CEL are last, and run only if nothing blocks them.
Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation
"""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors
from tiphys.api.codec.typed import DecodeError
from tiphys.api.custom.metadata import read_metadata
from tiphys.api.custom.shaping import EMBEDDED
from tiphys.api.fielderrors import FieldError, FieldErrorType
from tiphys.api.gotext import quote, value_text
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.api.scheme import CustomVersion, ScalePaths
from tiphys.validation.custom import schemas
from tiphys.validation.custom.lists import repeated
from tiphys.validation.custom.rules import has_rules, validate_rules
from tiphys.validation.shared.common import MAX_INT32, name_is_path_segment
from tiphys.validation.shared.objectmeta import validate_meta, validate_meta_update

Errors = list[FieldError]

_BLOCKING = (
    FieldErrorType.NOT_SUPPORTED,
    FieldErrorType.REQUIRED,
    FieldErrorType.TOO_LONG,
    FieldErrorType.TOO_MANY,
    FieldErrorType.TYPE_INVALID,
)
_NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete"
    " validation"
)
_STANDARD_FINALIZERS = ("orphan", "foregroundDeletion", "kubernetes")


def validate_create(obj: Object, version: CustomVersion, *, namespaced: bool) -> Errors:
    if errs := _type_meta(obj, version):
        return errs
    validate_meta(errs, obj, namespaced=namespaced, core=False)
    errs += schemas.validate(obj, version.structural)
    errs += _scale_spec(obj, version.scale) + _scale_status(obj, version.scale)
    errs += embedded_errors(obj, version.structural, "")
    errs += repeated(obj, version.structural)
    return errs + _rules(errs, obj, None, version)


def validate_update(
    new: Object, old: Object, version: CustomVersion, warnings: list[str] | None = None, *, namespaced: bool
) -> Errors:
    """``warnings`` takes what the rules find wrong as it was before."""
    errs = _metadata_of_any(new, old, namespaced=namespaced)
    if wrong := _type_meta(new, version):
        return errs + wrong
    validate_meta_update(errs, new, old, core=False)
    errs += schemas.validate(new, version.structural, old=old)
    errs += _scale_spec(new, version.scale) + _scale_status(new, version.scale)
    errs += embedded_errors(new, version.structural, "")
    errs += _newly_repeated(new, old, version)
    return errs + _rules(errs, new, old, version, warnings)


def validate_status_update(
    new: Object, old: Object, version: CustomVersion, warnings: list[str] | None = None, *, namespaced: bool
) -> Errors:
    errs = _metadata_of_any(new, old, namespaced=namespaced)
    if wrong := _type_meta(new, version):
        return errs + wrong
    validate_meta_update(errs, new, old, core=False)
    if "status" in new:
        schema = ((version.structural or {}).get("properties") or {}).get("status")
        before = old.get("status", schemas.UNKNOWN)
        errs += schemas.validate(new["status"], schema, "status", before)
    errs += _scale_status(new, version.scale)
    errs += _newly_repeated(new, old, version)
    return errs + _rules(errs, new, old, version, warnings)


def _metadata_of_any(new: Object, old: Object, *, namespaced: bool) -> Errors:
    """Metadata as it is checked for every kind, before a kind's own rules say the same once more."""
    errs: Errors = []
    validate_meta(errs, new, namespaced=namespaced, name_check=name_is_path_segment, core=False)
    validate_meta_update(errs, new, old, core=False)
    return errs


def _type_meta(obj: Object, version: CustomVersion) -> Errors:
    wanted = {"kind": version.gvk.kind, "apiVersion": version.gvk.api_version}
    return [
        fielderrors.invalid(name, obj.get(name) or "", f"must be {value}")
        for name, value in wanted.items()
        if obj.get(name) != value
    ]


def _newly_repeated(new: Object, old: Object, version: CustomVersion) -> Errors:
    """An old mistake in a list may stay."""
    errors = repeated(new, version.structural)
    return [] if errors and repeated(old, version.structural) else errors


def _rules(
    errs: Errors, obj: Object, old: Object | None, version: CustomVersion, warnings: list[str] | None = None
) -> Errors:
    if version.structural is None:
        return []
    if any(error.type in _BLOCKING for error in errs):
        return [fielderrors.invalid("<nil>", None, _NOT_CHECKED)] if has_rules(version.structural) else []
    return validate_rules(obj, old, version.structural, warnings=warnings)


# -- scale


def dig(obj: Object, path: str) -> tuple[Any, bool, str]:
    """The value at ``.a.b``, whether it is there, and why it cannot be reached."""
    value: Any = obj
    parts = path.removeprefix(".").split(".")
    for i, part in enumerate(parts):
        if value is None or (isinstance(value, dict) and part not in value):
            return None, False, ""
        if not isinstance(value, dict):
            return None, False, _unfit(value, ".".join(parts[: i + 1]), "map[string]interface{}")
        value = value[part]
    return value, True, ""


def _unfit(value: Any, path: str, wanted: str) -> str:
    shown = f"{value_text(value)} is of the type {_go(value)}, expected {wanted}"
    return f".{path.removeprefix('.')} accessor error: {shown}"


def _go(value: Any) -> str:
    if value is None:
        return "<nil>"
    kinds = {bool: "bool", str: "string", int: "int64", float: "float64", list: "[]interface {}"}
    return kinds.get(type(value), "map[string]interface {}")


def number_at(obj: Object, path: str) -> tuple[int, bool, str]:
    """A whole number, whether it is there, and what is wrong with it."""
    value, present, problem = dig(obj, path)
    if not problem and present and (not isinstance(value, int) or isinstance(value, bool)):
        problem = _unfit(value, path, "int64")
    return (0, False, problem) if problem or not present else (value, True, "")


def text_at(obj: Object, path: str) -> tuple[str, str]:
    """A text, empty if absent, and what is wrong with it."""
    value, present, problem = dig(obj, path)
    if not problem and present and not isinstance(value, str):
        problem = _unfit(value, path, "string")
    return ("", problem) if problem or not present else (value, "")


def _scale_spec(obj: Object, scale: ScalePaths | None) -> Errors:
    return [] if scale is None else _replicas(obj, scale.spec)


def _scale_status(obj: Object, scale: ScalePaths | None) -> Errors:
    if scale is None:
        return []
    errs = _replicas(obj, scale.status)
    if scale.selector:
        text, problem = text_at(obj, scale.selector)
        if problem:
            errs.append(fielderrors.invalid(scale.selector, text, problem))
    return errs


def _replicas(obj: Object, path: str) -> Errors:
    count, _, problem = number_at(obj, path)
    if problem:
        return [fielderrors.invalid(path, count, problem)]
    if count < 0:
        return [fielderrors.invalid(path, count, "should be a non-negative integer")]
    if count > MAX_INT32:
        return [fielderrors.invalid(path, count, f"should be less than or equal to {MAX_INT32}")]
    return []


# -- embedded resources


def embedded_errors(value: Any, schema: Any, path: str) -> Errors:
    """What is wrong with the resources inside a value."""
    if not isinstance(schema, dict):
        return []
    errs: Errors = []
    if isinstance(value, dict):
        if schema.get(EMBEDDED):
            errs += _resource(value, path)
        properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, inner in value.items():
            if name in properties:
                errs += embedded_errors(inner, properties[name], f"{path}.{name}" if path else name)
            else:
                errs += embedded_errors(inner, more, f"{path}[{name}]")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            errs += embedded_errors(item, schema.get("items"), f"{path}[{i}]")
    return errs


def _resource(obj: Object, path: str) -> Errors:
    before = f"{path}." if path else ""
    errs = [fielderrors.required(before + name) for name in ("apiVersion", "kind") if name not in obj]
    for name, value in obj.items():
        at = before + name
        if name in ("apiVersion", "kind"):
            errs += _type_text(name, value, at)
        elif name == "metadata":
            errs += _metadata(value, at)
    return errs


def _type_text(name: str, value: Any, path: str) -> Errors:
    if not isinstance(value, str):
        return [fielderrors.invalid(path, value, "must be a string")]
    if not value:
        return [fielderrors.invalid(path, value, "must not be empty")]
    if name == "apiVersion":
        wrong = value.count("/") > 1
        return [fielderrors.invalid(path, value, f"unexpected GroupVersion string: {value}")] if wrong else []
    if problems := names.dns1035_label(value.lower()):
        text = f"may have mixed case, but should otherwise match: {','.join(problems)}"
        return [fielderrors.invalid(path, value, text)]
    return []


def _metadata(value: Any, path: str) -> Errors:
    try:
        meta, _ = read_metadata(value, path)
    except DecodeError as error:
        return [fielderrors.invalid(path, value, str(error))]
    meta["name"] = meta.get("name") or "fakename"
    errs: Errors = []
    validate_meta(
        errs,
        {"metadata": meta},
        namespaced=bool(meta.get("namespace")),
        name_check=name_is_path_segment,
        core=False,
        path=path,
    )
    return errs


# -- warnings


def warnings(new: Object, old: Object | None) -> list[str]:
    """Finalizers whose name may be another's."""
    known = set((old or {}).get("metadata", {}).get("finalizers") or ())
    messages: list[str] = []
    for finalizer in sorted(set(new["metadata"].get("finalizers") or ()) - known):
        start = f"metadata.finalizers: {quote(finalizer)}: "
        messages += [start + text for text in names.qualified_name(finalizer)]
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            path = " including a path (/)" if "." in finalizer else ""
            text = f"prefer a domain-qualified finalizer name{path} to avoid accidental conflicts"
            messages.append(f"{start}{text} with other finalizer writers")
    return messages
