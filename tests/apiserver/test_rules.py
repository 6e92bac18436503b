import random

import pytest

from tiphys.apiserver.authz.authorizer import Access
from tiphys.apiserver.authz.rules import count_parts, read_rule, read_rules, uncovered
from tiphys.apiserver.bootstrap.policy import bootstrap_policy
from tiphys.apiserver.call import User

BOB = User("bob")
RULE = read_rule({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "*/scale"], "resourceNames": ["a"]})


@pytest.mark.parametrize(
    ("access", "allowed"),
    [
        (Access(BOB, "get", resource="pods", name="a"), True),
        (Access(BOB, "get", resource="pods", name="b"), False),
        (Access(BOB, "get", resource="pods", subresource="log", name="a"), False),
        (Access(BOB, "get", resource="things", subresource="scale", name="a"), True),
        (Access(BOB, "list", resource="pods", name="a"), False),
        (Access(BOB, "get", group="apps", resource="pods", name="a"), False),
        (Access(BOB, "get", path="/healthz", is_resource=False), False),
    ],
)
def test_rules_of_resources(access, allowed) -> None:
    assert RULE.allows(access) is allowed


def test_rules_of_paths() -> None:
    rule = read_rule({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/api/*"]})
    for path, allowed in (("/healthz", True), ("/api/v1", True), ("/apis", False), ("/healthz/etcd", False)):
        assert rule.allows(Access(BOB, "get", path=path, is_resource=False)) is allowed


def test_what_somebody_would_gain() -> None:
    owned = read_rules([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}])
    wanted = [{"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods", "secrets"]}]
    assert [(rule["verbs"], rule["resources"]) for rule in uncovered(owned, wanted)] == [
        (["delete"], ["pods"]),
        (["get"], ["secrets"]),
        (["delete"], ["secrets"]),
    ]


def test_the_default_policy_is_whole() -> None:
    policy = bootstrap_policy()
    names = {role["metadata"]["name"] for role in policy.clusterroles}
    assert {"cluster-admin", "admin", "edit", "view", "system:node", "system:controller:job-controller"} <= names
    assert len(names) == len(policy.clusterroles)
    for binding in policy.clusterrolebindings:
        assert binding["roleRef"]["name"] in names
    local = {(role["metadata"]["namespace"], role["metadata"]["name"]) for role in policy.roles}
    for binding in policy.rolebindings:
        assert (binding["metadata"]["namespace"], binding["roleRef"]["name"]) in local


@pytest.mark.parametrize("seed", range(20))
def test_a_rule_that_is_covered_whole_has_no_part_that_is_not(seed: int) -> None:
    dice = random.Random(seed)
    words = {
        "verbs": ["get", "list", "*"],
        "apiGroups": ["", "a", "*"],
        "resources": ["x", "x/s", "*/s", "*"],
        "resourceNames": ["n", "m"],
        "nonResourceURLs": ["/a", "/a/*", "*"],
    }

    def rule() -> dict[str, list[str]]:
        return {name: dice.sample(some, dice.randrange(len(some))) for name, some in words.items()}

    covered = 0
    for _ in range(300):
        owned, wanted = read_rules([rule() for _ in range(3)]), rule()
        each = [part for part in split(wanted) if uncovered(owned, [part])]
        assert uncovered(owned, [wanted]) == each
        assert count_parts([wanted]) == len(split(wanted))
        covered += not each and bool(split(wanted))
    assert covered > 10


def split(rule: dict[str, list[str]]) -> list[dict[str, list[str]]]:
    """The parts of a rule, as nothing covers any."""
    return uncovered((), [rule])
