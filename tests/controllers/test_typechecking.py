"""Type checking of admission policies: warnings word for word as kube-controller-manager v1.36 writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tiphys.api.definitions import definitions
from tiphys.api.object import Object
from tiphys.api.openapi import document_v3
from tiphys.api.resources import builtin_scheme
from tiphys.api.scheme import GroupVersionKind
from tiphys.cel.schema.openapitypes import kind_type
from tiphys.controllers.admissionpolicies import checking
from tiphys.controllers.admissionpolicies.checking import PolicyContext
from tiphys.testing import Cluster

GROUP = "admissionregistration.k8s.io/v1"
RECORDED: Object = json.loads((Path(__file__).parent / "typechecking.json").read_text())
DEPLOYMENT, CONFIG_MAP = GroupVersionKind("apps", "v1", "Deployment"), GroupVersionKind("", "v1", "ConfigMap")


def type_of(gvk: GroupVersionKind, name: str) -> Any:
    document = document_v3(builtin_scheme(), definitions(), f"apis/{gvk.group}/v1" if gvk.group else "api/v1")
    assert document is not None
    return kind_type(document["components"]["schemas"], gvk.group, gvk.version, gvk.kind, name)


def test_warnings_are_those_of_upstream() -> None:
    kinds = tuple((gvk, type_of(gvk, gvk.kind)) for gvk in (CONFIG_MAP, DEPLOYMENT))
    context = PolicyContext(kinds, has_params=True, params=type_of(CONFIG_MAP, "Params"))
    found = [warning for warning in checking.check(RECORDED, context) if warning is not None]
    assert found == RECORDED["warnings"]


def rule(**fields: list[str]) -> Object:
    return {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], **fields}


SERVED = {("apps", "v1", "deployments"): "Deployment", ("", "v1", "configmaps"): "ConfigMap"}


@pytest.mark.parametrize(
    ("rules", "kinds"),
    [
        ([rule()], [DEPLOYMENT]),
        ([rule(), rule(apiGroups=[""], resources=["configmaps"])], [CONFIG_MAP, DEPLOYMENT]),
        ([rule(apiGroups=["*"])], []),
        ([rule(apiVersions=["v1", "*"])], []),
        ([rule(resources=["*", "deployments/scale", "deployments"])], [DEPLOYMENT]),
        ([rule(resources=["nothing"])], []),
        ([], []),
    ],
)
def test_kinds_are_those_that_rules_name(rules: list[Object], kinds: list[GroupVersionKind]) -> None:
    policy = {"spec": {"matchConstraints": {"resourceRules": rules}}}
    assert checking.kinds_to_check(policy, SERVED) == kinds


def test_no_more_than_ten_kinds_are_checked() -> None:
    served = {("g", "v1", f"r{index:02}"): f"K{index:02}" for index in range(30)}
    rules = [rule(apiGroups=["g"], resources=[plural for _, _, plural in served])]
    assert len(checking.kinds_to_check({"spec": {"matchConstraints": {"resourceRules": rules}}}, served)) == 10


def test_a_schema_within_itself_is_any_object() -> None:
    schemas: Object = {
        "Tree": {
            "type": "object",
            "properties": {"child": {"allOf": [{"$ref": "#/components/schemas/Tree"}]}, "size": {"type": "integer"}},
            "x-kubernetes-group-version-kind": [{"group": "g", "version": "v1", "kind": "Tree"}],
        }
    }
    found = kind_type(schemas, "g", "v1", "Tree", "Tree")
    assert found is not None
    assert found.fields is not None
    assert set(found.fields) >= {"child", "size"}
    assert kind_type(schemas, "g", "v2", "Tree", "Tree") is None


@pytest.mark.parametrize(
    ("expression", "warned"), [("object.spec.replicas > 1", False), ("object.spec.replicas > '1'", True)]
)
def test_a_policy_gets_its_status(expression: str, warned: bool) -> None:
    with Cluster(nodes=0, controllers=("validatingadmissionpolicy-status-controller",)) as cluster:
        rules = [{**rule(), "operations": ["CREATE"]}]
        spec: Object = {
            "matchConstraints": {"resourceRules": rules},
            "validations": [{"expression": expression}],
        }
        policy = {"apiVersion": GROUP, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"}, "spec": spec}
        cluster.create(policy)

        def status(generation: int) -> Object | None:
            found = cluster.get(GROUP, "ValidatingAdmissionPolicy", "p") or {}
            known: Object = found.get("status") or {}
            return known if known.get("observedGeneration") == generation else None

        checked = cluster.wait_until(lambda: status(1))
        assert bool(checked["typeChecking"].get("expressionWarnings")) is warned
        change = {"spec": {"validations": [{"expression": "object.spec.nope == 1"}]}}
        cluster.patch(GROUP, "ValidatingAdmissionPolicy", "p", change)
        (warning,) = cluster.wait_until(lambda: status(2))["typeChecking"]["expressionWarnings"]
        assert warning["fieldRef"] == "spec.validations[0].expression"
        assert warning["warning"].startswith("apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'nope'")
