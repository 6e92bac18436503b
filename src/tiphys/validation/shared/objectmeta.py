"""Validation of ``metadata``: the same for every kind, but for what its name may look like.

Source: ``ObjectMeta`` in the API reference, and the API conventions on metadata.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.gotext import quote
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    Errors,
    NameCheck,
    equal,
    immutable,
    invalid_all,
    labels,
    name_is_label,
    name_is_subdomain,
    non_negative,
)

ANNOTATIONS_MAX = 256 * 1024
MANAGER_MAX = 128
SUBRESOURCE_MAX = 256
_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")
_DELETION = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def meta_of(obj: Object) -> Object:
    meta: Object = obj.get("metadata") or {}
    return meta


def validate_meta(
    errs: Errors,
    obj: Object,
    name_check: NameCheck = name_is_subdomain,
    path: str = "metadata",
    *,
    namespaced: bool,
    core: bool = True,
) -> None:
    """Metadata on create. ``core`` adds the check of finalizers that most kinds have."""
    meta = meta_of(obj)
    prefix, name = meta.get("generateName"), meta.get("name")
    if prefix:
        invalid_all(errs, f"{path}.generateName", prefix, name_check(prefix, prefix=True))
    if not name:
        errs.append(field.required(f"{path}.name", "name or generateName is required"))
    else:
        invalid_all(errs, f"{path}.name", name, name_check(name, prefix=False))
    _common(errs, meta, namespaced=namespaced, path=path)
    if core:
        kube_finalizers(errs, meta, path)


def validate_meta_named(
    errs: Errors, obj: Object, check: Callable[[Errors, str, str], None], path: str = "metadata", *, namespaced: bool
) -> None:
    """Metadata on create of the kinds that judge the name only, and not what it was generated from."""
    meta = meta_of(obj)
    name = meta.get("name")
    if meta.get("generateName") and not name:
        text = f"generateName was specified ({quote(meta['generateName'])}), but no name was generated"
        errs.append(field.internal(f"{path}.name", text))
    if not name:
        errs.append(field.required(f"{path}.name", "name or generateName is required"))
    else:
        check(errs, name, f"{path}.name")
    _common(errs, meta, namespaced=namespaced, path=path)
    kube_finalizers(errs, meta, path)


def _common(errs: Errors, meta: Object, path: str, *, namespaced: bool) -> None:
    namespace = meta.get("namespace")
    if namespaced:
        if not namespace:
            errs.append(field.required(f"{path}.namespace"))
        else:
            invalid_all(errs, f"{path}.namespace", namespace, name_is_label(namespace))
    elif namespace:
        errs.append(field.forbidden(f"{path}.namespace", "not allowed on this type"))
    non_negative(errs, meta.get("generation"), f"{path}.generation")
    if meta.get("labels"):
        labels(errs, meta["labels"], f"{path}.labels")
    if meta.get("annotations"):
        validate_annotations(errs, meta["annotations"], f"{path}.annotations")
    if meta.get("ownerReferences"):
        owner_references(errs, meta["ownerReferences"], f"{path}.ownerReferences")
    if meta.get("finalizers"):
        _finalizers(errs, meta["finalizers"], f"{path}.finalizers")
    if meta.get("managedFields"):
        managed_fields(errs, meta["managedFields"], f"{path}.managedFields")


def validate_annotations(errs: Errors, annotations: dict[str, str] | None, path: str) -> None:
    """Keys are qualified names, in either case; all together must not be too large."""
    if not annotations:
        return
    total = 0
    for key, value in annotations.items():
        for text in names.qualified_name(key.lower()):
            errs.append(field.invalid(path, key, text))
        total += names.byte_length(key) + names.byte_length(value or "")
    if total > ANNOTATIONS_MAX:
        errs.append(field.too_long(path, ANNOTATIONS_MAX))


def owner_references(errs: Errors, references: list[Object], path: str) -> None:
    controller = ""
    for reference in references:
        _owner_reference(errs, reference, path)
        if reference.get("controller"):
            current = f"{reference.get('kind') or ''}/{reference.get('name') or ''}"
            if controller:
                text = (
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    f"{controller} and {current}"
                )
                errs.append(field.invalid(path, [_owner_json(r) for r in references], text))
            else:
                controller = current


def _owner_reference(errs: Errors, reference: Object, path: str) -> None:
    api_version, kind = reference.get("apiVersion") or "", reference.get("kind") or ""
    if not api_version or api_version.endswith("/") or api_version.count("/") > 1:
        errs.append(field.invalid(f"{path}.apiVersion", api_version, "version must not be empty"))
    for key in ("kind", "name", "uid"):
        if not reference.get(key):
            errs.append(field.invalid(f"{path}.{key}", "", "must not be empty"))
    if api_version == "v1" and kind == "Event":
        text = "/v1, Kind=Event is disallowed from being an owner"
        errs.append(field.invalid(path, _owner_json(reference), text))


def _owner_json(reference: Object) -> Object:
    shown = {key: reference.get(key) or "" for key in ("apiVersion", "kind", "name", "uid")}
    for key in ("controller", "blockOwnerDeletion"):
        if reference.get(key) is not None:
            shown[key] = reference[key]
    return shown


def _finalizers(errs: Errors, finalizers: list[str], path: str) -> None:
    for name in finalizers:
        finalizer_name(errs, name, path)
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        text = "finalizer orphan and foregroundDeletion cannot be both set"
        errs.append(field.invalid(path, finalizers, text))


def finalizer_name(errs: Errors, name: str, path: str) -> None:
    invalid_all(errs, path, name, names.qualified_name(name))


def kube_finalizers(errs: Errors, meta: Object, path: str = "metadata") -> None:
    """A finalizer belongs to somebody: it has a domain, or is one of the standard ones."""
    for i, name in enumerate(meta.get("finalizers") or ()):
        kube_finalizer(errs, name, f"{path}.finalizers[{i}]")


def kube_finalizer(errs: Errors, name: str, path: str) -> None:
    if "/" not in name and name not in _STANDARD_FINALIZERS:
        text = "name is neither a standard finalizer name nor is it fully qualified"
        errs.append(field.invalid(path, name, text))


def managed_fields(errs: Errors, entries: list[Object], path: str) -> None:
    for i, entry in enumerate(entries):
        at = f"{path}[{i}]"
        operation = entry.get("operation") or ""
        if operation not in ("Apply", "Update"):
            errs.append(field.invalid(f"{at}.operation", operation, "must be `Apply` or `Update`"))
        kind = entry.get("fieldsType")
        if kind and kind != "FieldsV1":
            errs.append(field.invalid(f"{at}.fieldsType", kind, "must be `FieldsV1`"))
        field_manager(errs, entry.get("manager") or "", f"{at}.manager")
        if names.byte_length(entry.get("subresource") or "") > SUBRESOURCE_MAX:
            errs.append(field.too_long(f"{at}.subresource", SUBRESOURCE_MAX))


def field_manager(errs: Errors, manager: str, path: str) -> None:
    if names.byte_length(manager) > MANAGER_MAX:
        errs.append(field.too_long(path, MANAGER_MAX))
    if manager.isprintable():
        return
    position = 0
    for character in manager:
        if not character.isprintable():
            shown = f"U+{ord(character):04X} '{character}'" if character.isprintable() else f"U+{ord(character):04X}"
            errs.append(field.invalid(path, manager, f"invalid character {shown} (at position {position})"))
        position += names.byte_length(character)


def validate_meta_update(errs: Errors, new: Object, old: Object, path: str = "metadata", *, core: bool = True) -> None:
    """Metadata on update: what identifies the object never changes."""
    n, o = meta_of(new), meta_of(old)
    if o.get("deletionTimestamp"):
        _no_new_finalizers(errs, n.get("finalizers") or [], o.get("finalizers") or [], f"{path}.finalizers")
    if not n.get("resourceVersion"):
        errs.append(field.invalid(f"{path}.resourceVersion", "", "must be specified for an update"))
    if (n.get("generation") or 0) < (o.get("generation") or 0):
        errs.append(field.invalid(f"{path}.generation", n.get("generation") or 0, "must not be decremented"))
    for key in ("name", "namespace"):
        immutable(errs, n.get(key) or "", o.get(key) or "", f"{path}.{key}")
    _deletion_immutable(errs, n, o, path)
    labels(errs, n.get("labels"), f"{path}.labels")
    validate_annotations(errs, n.get("annotations"), f"{path}.annotations")
    owner_references(errs, n.get("ownerReferences") or [], f"{path}.ownerReferences")
    managed_fields(errs, n.get("managedFields") or [], f"{path}.managedFields")
    if core:
        kube_finalizers(errs, n, path)


def _deletion_immutable(errs: Errors, new: Object, old: Object, path: str) -> None:
    for key in _DELETION:
        value = new.get(key)
        if key == "uid":
            immutable(errs, value or "", old.get(key) or "", f"{path}.{key}")
        elif not equal(value, old.get(key)):
            errs.append(field.invalid(f"{path}.{key}", value, "field is immutable"))


def _no_new_finalizers(errs: Errors, new: list[str], old: list[str], path: str) -> None:
    extra = sorted(set(new) - set(old))
    if extra:
        shown = "[]string{" + ", ".join(quote(name) for name in extra) + "}"
        text = f"no new finalizers can be added if the object is being deleted, found new finalizers {shown}"
        errs.append(field.forbidden(path, text))


def template_meta(errs: Errors, meta: Object | None, path: str) -> None:
    """Metadata of a template inside another object: labels and annotations, nothing else."""
    given: dict[str, Any] = meta or {}
    validate_annotations(errs, given.get("annotations"), f"{path}.annotations")
    labels(errs, given.get("labels"), f"{path}.labels")
    for key in META_FIELDS:
        if key not in ("labels", "annotations") and given.get(key):
            errs.append(field.forbidden(f"{path}.{_META_PATHS.get(key, key)}", "cannot be set"))


META_FIELDS = (
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
)
"""In the order of upstream's struct."""
# The path is the name of upstream's struct field with its first letter in lower case.
_META_PATHS = {"uid": "uID"}
