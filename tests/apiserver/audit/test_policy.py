"""Audit policies: which rule decides, and what is refused. The tables follow upstream's checker and validation."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.apiserver.audit.policy import Level, PolicyError, read_policy
from tiphys.apiserver.call import User
from tiphys.apiserver.requestinfo import RequestInfo

TIM = User("tim@k8s.io", ("humans", "developers"))

CREATE_POD = RequestInfo("create", "/api/v1/namespaces/default/pods/busybox", "", "v1", "default", "pods")
CREATE_POD.name = "busybox"
GET_LOG = RequestInfo(
    "get", "/api/v1/namespaces/default/pods/busybox/log", "", "v1", "default", "pods", "log", "busybox"
)
GET_ROLE = RequestInfo("get", "/apis/rbac.authorization.k8s.io/v1/clusterroles/edit", "rbac.authorization.k8s.io", "v1")
GET_ROLE.resource, GET_ROLE.name = "clusterroles", "edit"
HEALTH = RequestInfo("get", "/healthz")
LOGS = RequestInfo("get", "/logs/app")

MATCHES: list[tuple[RequestInfo, dict[str, Any], bool]] = [
    (CREATE_POD, {}, True),
    (HEALTH, {}, True),
    (CREATE_POD, {"verbs": ["create"]}, True),
    (GET_LOG, {"verbs": ["create"]}, False),
    (CREATE_POD, {"users": ["tim@k8s.io"]}, True),
    (CREATE_POD, {"users": ["jim@k8s.io"]}, False),
    (CREATE_POD, {"userGroups": ["developers"]}, True),
    (CREATE_POD, {"userGroups": ["admins"]}, False),
    (CREATE_POD, {"users": ["tim@k8s.io"], "userGroups": ["admins"]}, False),
    (CREATE_POD, {"namespaces": ["default"]}, True),
    (CREATE_POD, {"namespaces": ["kube-system"]}, False),
    (GET_ROLE, {"namespaces": [""]}, True),
    (HEALTH, {"namespaces": [""]}, False),
    (CREATE_POD, {"resources": [{"resources": ["pods"]}]}, True),
    (GET_LOG, {"resources": [{"resources": ["pods"]}]}, False),
    (GET_LOG, {"resources": [{"resources": ["pods/log"]}]}, True),
    (GET_LOG, {"resources": [{"resources": ["pods/*"]}]}, True),
    (CREATE_POD, {"resources": [{"resources": ["pods/*"]}]}, True),
    (GET_LOG, {"resources": [{"resources": ["*/log"]}]}, True),
    (GET_LOG, {"resources": [{"resources": ["*/exec"]}]}, False),
    (CREATE_POD, {"resources": [{"resources": ["*"]}]}, True),
    (CREATE_POD, {"resources": [{"resources": ["pods"], "resourceNames": ["busybox"]}]}, True),
    (CREATE_POD, {"resources": [{"resources": ["pods"], "resourceNames": ["other"]}]}, False),
    (CREATE_POD, {"resources": [{"group": "apps"}]}, False),
    (CREATE_POD, {"resources": [{"group": "*"}]}, True),
    (GET_ROLE, {"resources": [{"group": "rbac.authorization.k8s.io"}]}, True),
    (GET_ROLE, {"resources": [{"group": "rbac.authorization.k8s.io", "resources": ["clusterroles"]}]}, True),
    (HEALTH, {"resources": [{"group": "*"}]}, False),
    (HEALTH, {"nonResourceURLs": ["/healthz"]}, True),
    (HEALTH, {"nonResourceURLs": ["/health"]}, False),
    (LOGS, {"nonResourceURLs": ["/logs*"]}, True),
    (LOGS, {"nonResourceURLs": ["*"]}, True),
    (CREATE_POD, {"nonResourceURLs": ["*"]}, False),
]


def policy(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **more}


@pytest.mark.parametrize(("info", "conditions", "matches"), MATCHES)
def test_a_rule_matches(info: RequestInfo, conditions: dict[str, Any], matches: bool) -> None:
    read = read_policy(policy({"level": "Request", **conditions}))
    assert read.treatment(TIM, info).level is (Level.REQUEST if matches else Level.NONE)


def test_the_first_rule_that_matches_decides() -> None:
    read = read_policy(policy({"level": "None", "verbs": ["get"]}, {"level": "RequestResponse"}))
    assert read.treatment(TIM, HEALTH).level is Level.NONE
    assert read.treatment(TIM, CREATE_POD).level is Level.REQUEST_RESPONSE


def test_stages_of_policy_and_rule_are_joined_and_a_rule_overrides_managed_fields() -> None:
    rules = ({"level": "Metadata", "omitStages": ["Panic"], "omitManagedFields": False, "verbs": ["get"]},)
    document = policy(*rules, {"level": "Metadata"}, omitStages=["RequestReceived"], omitManagedFields=True)
    read = read_policy(document)
    first, second = read.treatment(TIM, HEALTH), read.treatment(TIM, CREATE_POD)
    assert (first.omit_stages, first.omit_managed_fields) == ({"Panic", "RequestReceived"}, False)
    assert (second.omit_stages, second.omit_managed_fields) == ({"RequestReceived"}, True)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "not a Policy of audit.k8s.io/v1"),
        ({"apiVersion": "audit.k8s.io/v1beta1", "kind": "Policy"}, "not a Policy of audit.k8s.io/v1"),
        (policy(), "loaded illegal policy with 0 rules"),
        (policy({}), "rules[0].level: Required value"),
        (policy({"level": "All"}), 'rules[0].level: Unsupported value: "All"'),
        (policy({"level": "None", "nonResourceURLs": ["healthz"]}), "must begin with a '/' character"),
        (policy({"level": "None", "nonResourceURLs": ["/a*b"]}), "must be the final character of the rule"),
        (policy({"level": "None", "nonResourceURLs": ["/a"], "namespaces": ["b"]}), "cannot apply to both"),
        (
            policy({"level": "None", "resources": [{"group": "rbac/v1"}]}),
            'resources.group: Invalid value: "rbac/v1"',
        ),
        (policy({"level": "None", "resources": [{"resourceNames": ["x"]}]}), "requires at least one resource"),
        (policy({"level": "None", "omitStages": ["Never"]}), "rules[0].omitStages[0]: Invalid value"),
        (policy({"level": "None"}, omitStages=["Never"]), "allowed stages are RequestReceived,ResponseStarted"),
        (policy("None"), "rules[0]: Invalid value"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_is_named(document: Any, message: str) -> None:
    with pytest.raises(PolicyError) as wrong:
        read_policy(document)
    assert message in str(wrong.value)
