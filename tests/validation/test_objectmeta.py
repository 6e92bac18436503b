"""Metadata, the same for all kinds."""

from __future__ import annotations

import pytest

from tests.validation.making import create, made, update
from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind
from tiphys.validation import validate_update
from tiphys.validation.registry import RULES

QUALIFIED = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character"
)
OWNER = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}


@pytest.mark.parametrize(
    ("meta", "errors"),
    [
        ({"name": ""}, ["metadata.name: Required value: name or generateName is required"]),
        ({"labels": {"a b": "c"}}, [f'metadata.labels: Invalid value: "a b": {QUALIFIED}']),
        ({"annotations": {"a": "x" * 262144}}, ["metadata.annotations: Too long: may not be more than 262144 bytes"]),
        (
            {"ownerReferences": [{**OWNER, "name": ""}]},
            ['metadata.ownerReferences.name: Invalid value: "": must not be empty'],
        ),
        (
            {"ownerReferences": [{**OWNER, "controller": True}, {**OWNER, "name": "q", "controller": True}]},
            [
                'metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u",'
                '"controller":true},{"apiVersion":"v1","kind":"Pod","name":"q","uid":"u","controller":true}]: Only one '
                'reference can have Controller set to true. Found "true" in references for Pod/p and Pod/q'
            ],
        ),
        (
            {"finalizers": ["mine"]},
            [
                'metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it '
                "fully qualified"
            ],
        ),
        (
            {"finalizers": ["orphan", "foregroundDeletion"]},
            [
                'metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and '
                "foregroundDeletion cannot be both set"
            ],
        ),
        ({"generation": -1}, ["metadata.generation: Invalid value: -1: must be greater than or equal to 0"]),
        (
            {"managedFields": [{"operation": "Change"}]},
            ['metadata.managedFields[0].operation: Invalid value: "Change": must be `Apply` or `Update`'],
        ),
        ({"annotations": {"A/b": "upper case prefixes are in use"}}, []),
    ],
)
def test_create(meta: Object, errors: list[str]) -> None:
    assert create("v1", "ConfigMap", {"metadata": meta}) == errors


def test_cluster_kinds_have_no_namespace() -> None:
    found = create("v1", "Namespace", {"metadata": {"namespace": "ns"}})
    assert found == ["metadata.namespace: Forbidden: not allowed on this type"]


@pytest.mark.parametrize(
    ("new", "old", "errors"),
    [
        ({"uid": "a"}, {"uid": "b"}, ['metadata.uid: Invalid value: "a": field is immutable']),
        ({"name": "y"}, {}, ['metadata.name: Invalid value: "y": field is immutable']),
        ({"generation": 1}, {"generation": 2}, ["metadata.generation: Invalid value: 1: must not be decremented"]),
        ({"resourceVersion": ""}, {}, ['metadata.resourceVersion: Invalid value: "": must be specified for an update']),
        (
            {"finalizers": ["a/b"], "deletionTimestamp": "t"},
            {"deletionTimestamp": "t"},
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found "
                'new finalizers []string{"a/b"}'
            ],
        ),
    ],
)
def test_update(new: Object, old: Object, errors: list[str]) -> None:
    assert update("v1", "ConfigMap", {"metadata": new}, {"metadata": old}) == errors


def test_errors_come_as_often_as_from_the_original() -> None:
    """The causes of a Status are counted: twice by the registry, twice by the kind's own rules."""
    old = made("v1", "ConfigMap", {"metadata": {"resourceVersion": "1"}})
    new = made("v1", "ConfigMap", {"metadata": {"resourceVersion": "1", "labels": {"a": "b c"}}})
    assert len(validate_update(new, old, GroupVersionKind("", "v1", "ConfigMap"))) == 4


STORED = [key for key, rules in RULES.items() if rules.metadata_on_update and "AccessReview" not in key.kind]


@pytest.mark.parametrize("key", [k for k in STORED if k.kind not in ("Binding", "Eviction", "Scale", "TokenRequest")])
@pytest.mark.parametrize("part", ["update", "status"])
def test_kinds_that_say_so_check_metadata_of_updates(key: tuple[str, str, str], part: str) -> None:
    """Where their rules find nothing, nobody looks again."""
    if part == "status" and not RULES[key].metadata_on_status:
        pytest.skip("the rules of its status do not say so")
    check = getattr(RULES[key], part) or RULES[key].update
    new, old = ({"metadata": {"name": "a", "uid": uid, "resourceVersion": "1"}, "spec": {}} for uid in ("1", "2"))
    assert any(e.field == "metadata.uid" for e in check(new, old))


@pytest.mark.parametrize("api_version", ["v1", "apps/v1"])
def test_kinds_without_rules_of_their_own(api_version: str) -> None:
    assert create(api_version, "Unheard", {}) == ["metadata.namespace: Forbidden: not allowed on this type"]
