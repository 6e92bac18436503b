"""The rules of one kind, as the registry of kinds holds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    Errors,
    name_is_path_segment,
    name_is_subdomain,
)
from tiphys.validation.shared.objectmeta import validate_meta, validate_meta_update

Create = Callable[[Object], Errors]
Update = Callable[[Object, Object], Errors]


@dataclass(frozen=True, slots=True)
class Rules:
    """``update`` and ``status`` get the new object and the old one."""

    create: Create
    update: Update
    status: Update | None = None
    checks_metadata: bool = True
    """False for the few kinds whose own rules do not look at the metadata on create."""
    metadata_on_update: bool = True
    """The same for updates."""
    metadata_on_status: bool = True
    """The same for updates of the status."""


def metadata_only(*, namespaced: bool, name_is_subdomain_only: bool = True) -> Rules:
    """A kind of which only the metadata is looked at."""
    check = name_is_subdomain if name_is_subdomain_only else name_is_path_segment

    def create(obj: Object) -> Errors:
        errs: Errors = []
        validate_meta(errs, obj, namespaced=namespaced, name_check=check)
        return errs

    def update(new: Object, old: Object) -> Errors:
        errs: Errors = []
        validate_meta_update(errs, new, old)
        return errs

    return Rules(create, update, update)


def not_stored(create: Create) -> Rules:
    """A kind that is only ever created, and never kept: a review, a binding."""

    def update(new: Object, old: Object) -> Errors:
        raise AssertionError("a kind that is not stored is not updated")

    return Rules(create, update)
