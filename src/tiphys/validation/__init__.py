"""Semantic validation: what an object must be beyond its schema, and what of it may change.

The functions take an object in the version it was written in, after defaulting, and give the errors in the order in
which upstream reports them; ``api.errors.invalid`` makes a Status of the list. Missing and ``null`` are the same.

Checks that need other objects or settings of the server are elsewhere: whether a cluster IP or a node port is free and
in range (allocators), whether a service account or a priority class exists (admission), what the caller may do
(authorization).
"""

from __future__ import annotations

from functools import cache, lru_cache

from tiphys.api.fielderrors import FieldError
from tiphys.api.object import Object
from tiphys.api.resources import builtin_scheme
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupKind, GroupVersionKind
from tiphys.validation.registry import RULES, RULES_OF_VERSION
from tiphys.validation.shared.common import name_is_path_segment
from tiphys.validation.shared.objectmeta import validate_meta, validate_meta_update
from tiphys.validation.shared.rules import Rules, metadata_only
from tiphys.validation.shared.wireorder import in_wire_order
from tiphys.validation.warnings import deprecated_api, warnings

__all__ = ["deprecated_api", "validate_create", "validate_status_update", "validate_update", "warnings"]


def _rules(gvk: GroupVersionKind) -> Rules:
    return RULES_OF_VERSION.get(gvk) or RULES.get(gvk.group_kind) or _common_rules(gvk)


@lru_cache(maxsize=64)
def _common_rules(gvk: GroupVersionKind) -> Rules:
    return metadata_only(namespaced=_is_namespaced(gvk))


@cache
def _namespaced() -> dict[GroupKind, bool]:
    """Whether each built-in kind's objects are in namespaces."""
    return {resource.group_kind: resource.namespaced for resource in builtin_scheme().resources()}


def _is_namespaced(gvk: GroupVersionKind) -> bool:
    return _namespaced().get(gvk.group_kind, False)


def validate_create(obj: Object, gvk: GroupVersionKind) -> list[FieldError]:
    rules = _rules(gvk)
    errs = rules.create(obj)
    if not errs and not rules.checks_metadata:
        validate_meta(errs, obj, namespaced=_is_namespaced(gvk), name_check=name_is_path_segment, core=False)
    return _told(errs, gvk)


def validate_update(new: Object, old: Object, gvk: GroupVersionKind) -> list[FieldError]:
    """Metadata is checked for every kind first, and by most kinds' own rules once more; upstream counts both."""
    rules = _rules(gvk)
    return _with_metadata(checked=rules.metadata_on_update, own=rules.update(new, old), new=new, old=old, gvk=gvk)


def validate_status_update(new: Object, old: Object, gvk: GroupVersionKind) -> list[FieldError]:
    """An update of the ``status`` subresource. Kinds that say nothing of their own have their metadata looked at."""
    rules = _rules(gvk)
    if rules.status is None:
        return validate_update(new, old, gvk)
    checks = rules.metadata_on_update and rules.metadata_on_status
    return _with_metadata(checked=checks, own=rules.status(new, old), new=new, old=old, gvk=gvk)


_CREATE_ONLY = ("finalizers", "generateName")
"""Metadata that is only looked at as if it were new."""


def _with_metadata(
    own: list[FieldError], new: Object, old: Object, gvk: GroupVersionKind, *, checked: bool
) -> list[FieldError]:
    """``own`` with the errors of the metadata; ``checked`` says that the kind's own rules look at it."""
    if not own and checked:
        meta, before = new.get("metadata") or {}, old.get("metadata") or {}
        if all(meta.get(key) == before.get(key) for key in _CREATE_ONLY):
            return own
    errs: list[FieldError] = []
    validate_meta(errs, new, namespaced=_is_namespaced(gvk), name_check=name_is_path_segment, core=False)
    validate_meta_update(errs, new, old, core=False)
    return _told(errs + own, gvk)


def _told(errs: list[FieldError], gvk: GroupVersionKind) -> list[FieldError]:
    """The errors in the wording of messages."""
    if not errs or gvk.group_kind not in _namespaced():
        return errs
    return in_wire_order(errs, schema_for(gvk))
