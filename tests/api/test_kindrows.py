"""The tables by kind have one type of key and agree: no row is about a kind that is not served."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tiphys.api.defaults import DEFAULTERS, DEFAULTERS_OF_VERSION
from tiphys.api.resources import builtin_scheme
from tiphys.api.scheme import GroupKind, GroupVersionKind
from tiphys.apiserver.registry.kinds import FACTS
from tiphys.apiserver.registry.setup import STRATEGIES
from tiphys.apiserver.storage.fields import SELECTABLE
from tiphys.validation.registry import RULES, RULES_OF_VERSION

UNSERVED = {"ClusterTrustBundle", "PodCertificateRequest"}
"""Kinds of alpha and beta versions, of which it is known what selectors may name."""


def served() -> set[GroupVersionKind]:
    rows = builtin_scheme().resources()
    kinds = {resource.gvk(version) for resource in rows for version in resource.versions}
    return kinds | {part.kind for resource in rows for part in resource.subresources if part.kind is not None}


@pytest.mark.parametrize("table", [DEFAULTERS, RULES, FACTS, STRATEGIES, SELECTABLE])
def test_rows_are_of_served_kinds(table: Iterable[GroupKind]) -> None:
    known = {kind.group_kind for kind in served()}
    assert all(type(kind) is GroupKind for kind in table)
    assert {kind for kind in table if kind not in known and kind.kind not in UNSERVED} == set()


@pytest.mark.parametrize("table", [DEFAULTERS_OF_VERSION, RULES_OF_VERSION])
def test_rows_of_versions_are_of_served_ones(table: Iterable[GroupVersionKind]) -> None:
    assert set(table) <= served()


def test_a_kind_and_its_text() -> None:
    for kind in (GroupKind("apps", "Deployment"), GroupKind("", "Pod")):
        assert GroupKind.parse(str(kind)) == kind
    assert str(GroupKind("rbac.authorization.k8s.io", "Role")) == "Role.rbac.authorization.k8s.io"
