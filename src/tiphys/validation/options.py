"""Validation of the query options of a request: CreateOptions, UpdateOptions, PatchOptions, DeleteOptions.

Source: the common parameters of the API reference.
"""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.fielderrors import FieldError
from tiphys.validation.shared.objectmeta import field_manager

Options = dict[str, Any]

_FIELD_VALIDATION = ("", "Ignore", "Strict", "Warn")
_PROPAGATION = ("Foreground", "Background", "Orphan")


def validate_write_options(options: Options) -> list[FieldError]:
    """CreateOptions and UpdateOptions."""
    errs: list[FieldError] = []
    field_manager(errs, options.get("fieldManager") or "", "fieldManager")
    _dry_run(errs, options)
    _field_validation(errs, options)
    return errs


def validate_patch_options(options: Options, *, apply: bool) -> list[FieldError]:
    errs: list[FieldError] = []
    if apply:
        if not options.get("fieldManager"):
            errs.append(field.required("fieldManager", "is required for apply patch"))
    elif options.get("force") is not None:
        errs.append(field.forbidden("force", "may not be specified for non-apply patch"))
    return errs + validate_write_options(options)


def validate_delete_options(options: Options) -> list[FieldError]:
    errs: list[FieldError] = []
    policy = options.get("propagationPolicy")
    if policy is not None:
        if options.get("orphanDependents") is not None:
            text = "orphanDependents and deletionPropagation cannot be both set"
            errs.append(field.invalid("propagationPolicy", policy, text))
        if policy not in _PROPAGATION:
            errs.append(field.not_supported("propagationPolicy", policy, [*_PROPAGATION, "nil"]))
    _dry_run(errs, options)
    _ignore_read_error(errs, options)
    return errs


def _dry_run(errs: list[FieldError], options: Options) -> None:
    values = options.get("dryRun") or []
    if any(value != "All" for value in values):
        errs.append(field.not_supported("dryRun", values, ["All"]))


def _field_validation(errs: list[FieldError], options: Options) -> None:
    value = options.get("fieldValidation") or ""
    if value not in _FIELD_VALIDATION:
        errs.append(field.not_supported("fieldValidation", value, _FIELD_VALIDATION))


def _ignore_read_error(errs: list[FieldError], options: Options) -> None:
    path = "ignoreStoreReadErrorWithClusterBreakingPotential"
    if not options.get(path):
        return
    others = ("dryRun", "propagationPolicy", "orphanDependents", "gracePeriodSeconds", "preconditions")
    given = [key for key in others if options.get(key) not in (None, [])]
    errs.extend(field.invalid(path, True, f"cannot be set together with .{key}") for key in given)
