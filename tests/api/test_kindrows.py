"""The tables by kind agree: no row is about a kind that is not served."""

from __future__ import annotations

from tiphys.api.defaults import _DEFAULTERS
from tiphys.api.resources import builtin_scheme
from tiphys.api.scheme import GroupVersionKind
from tiphys.validation.registry import RULES

NOT_RESOURCES = {"Eviction", "Scale", "TokenRequest"}
"""Kinds of subresources."""


def served() -> set[GroupVersionKind]:
    scheme = builtin_scheme()
    kinds = {resource.gvk(version) for resource in scheme.resources() for version in resource.versions}
    return kinds | {
        part.kind for resource in scheme.resources() for part in resource.subresources if part.kind is not None
    }


def test_defaults_are_of_served_kinds() -> None:
    known = {(kind.group, kind.version, kind.kind) for kind in served()}
    assert {row for row in _DEFAULTERS if row not in known and row[2] not in NOT_RESOURCES} == set()


def test_rules_are_of_served_kinds() -> None:
    groups = {(kind.group, kind.kind) for kind in served()}
    versions = {(kind.group, kind.version, kind.kind) for kind in served()}
    strange = {
        row
        for row in RULES
        if (row not in versions if row[1] else (row[0], row[2]) not in groups) and row[2] not in NOT_RESOURCES
    }
    assert strange == set()
