"""ABAC: policies, one a line, and what they allow."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.apiserver.apiworld import World, run
from tiphys.apiserver.authz.abac import AbacAuthorizer, read_policies
from tiphys.apiserver.authz.authorizer import Access
from tiphys.apiserver.call import User
from tiphys.apiserver.config import Config
from tiphys.apiserver.configfile import ConfigFileError

HEAD = '"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy"'
FILE = f"""
# a comment
{{"readonly": true, "resource": "events"}}
{{"user": "scheduler", "readonly": true, "resource": "pods"}}
{{"user": "scheduler", "resource": "bindings"}}
{{"user": "alice", "namespace": "projectCaribou"}}
{{{HEAD}, "spec": {{"user": "bob", "namespace": "a", "resource": "*", "apiGroup": "apps"}}}}
{{{HEAD}, "spec": {{"group": "readers", "nonResourcePath": "/debug*", "readonly": true}}}}
{{{HEAD}, "spec": {{"user": "carol", "group": "admins", "namespace": "*", "resource": "*", "apiGroup": "*"}}}}
{{{HEAD}, "spec": {{"namespace": "*", "resource": "*", "apiGroup": "*"}}}}
{{{HEAD}, "spec": {{"user": "*", "resource": "selfsubjectrulesreviews", "apiGroup": "authorization.k8s.io"}}}}
"""
KNOWN = "system:authenticated"


def ask(
    user: str, verb: str, resource: str = "", group: str = "", namespace: str = "", path: str = "", *groups: str
) -> Access:
    who = User(user, groups or (KNOWN,))
    return Access(who, verb, group, "v1", resource, namespace=namespace, path=path, is_resource=not path)


CASES = [
    (ask("u", "get", "events", namespace="any"), True),
    (ask("u", "create", "events", namespace="any"), False),
    (ask("u", "get", "events", "", "any", "", "nobody"), False),  # the oldest form is about known users
    (ask("scheduler", "list", "pods"), True),
    (ask("scheduler", "update", "pods"), False),
    (ask("scheduler", "create", "bindings"), True),
    (ask("alice", "delete", "anything", "any.group", "projectCaribou"), True),
    (ask("alice", "delete", "anything", "any.group", "other"), False),
    (ask("alice", "get", path="/any"), False),
    (ask("bob", "delete", "deployments", "apps", "a"), True),
    (ask("bob", "delete", "deployments", "batch", "a"), False),
    (ask("bob", "delete", "deployments", "apps", "b"), False),
    (ask("dave", "get", "", "", "", "/debug/pprof", "readers"), True),
    (ask("dave", "post", "", "", "", "/debug/pprof", "readers"), False),
    (ask("dave", "get", "", "", "", "/other", "readers"), False),
    (ask("carol", "get", "nodes", "", "", "", "admins"), True),
    (ask("carol", "get", "nodes", "", "", "", "others"), False),
    (ask("eve", "get", "nodes", "", "", "", "admins"), False),
    # A review may ask about a resource without naming one: that is no question about a path.
    (ask("alice", "update", "", "", "projectCaribou"), True),
    (ask("alice", "update", "", "", "other"), False),
    (ask("bob", "get", ""), False),
]


@pytest.mark.parametrize(("access", "allowed"), CASES)
def test_policies_allow_what_they_say(tmp_path: Path, access: Access, allowed: bool) -> None:
    path = tmp_path / "policies"
    path.write_text(FILE)
    decision = asyncio.run(AbacAuthorizer(read_policies(path)).authorize(access))
    assert (decision.allowed, decision.reason) == (allowed, "" if allowed else "No policy matched.")


ANONYMOUS = ("system:unauthenticated",)
STARS = [
    '{"user": "*"}',
    '{"group": "*"}',
    "{}",
    '{"kind": "Policy", "apiVersion": "abac.authorization.kubernetes.io/v0", "user": "*", "group": "admins"}',
    f'{{{HEAD}, "spec": {{"user": "*", "namespace": "*", "resource": "*", "apiGroup": "*", "group": null}}}}',
    f'{{{HEAD}, "spec": {{"group": "*", "namespace": "*", "resource": "*", "apiGroup": "*"}}}}',
    f'{{{HEAD}, "spec": {{"user": "*", "group": "admins", "namespace": "*", "resource": "*", "apiGroup": "*"}}}}',
]


@pytest.mark.parametrize("line", STARS)
def test_a_star_for_a_user_or_a_group_means_those_that_are_known(tmp_path: Path, line: str) -> None:
    path = tmp_path / "policies"
    path.write_text(line)
    authorizer = AbacAuthorizer(read_policies(path))
    anonymous = ask("system:anonymous", "delete", "nodes", "", "", "", *ANONYMOUS)
    assert not asyncio.run(authorizer.authorize(anonymous)).allowed
    assert asyncio.run(authorizer.authorize(ask("u", "delete", "nodes"))).allowed


def test_the_server_says_that_a_file_has_lines_without_a_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "policies"
    path.write_text(STARS[-1])
    read_policies(path)
    assert not caplog.records
    path.write_text(f"{STARS[-1]}\n{STARS[0]}")
    read_policies(path)
    assert "contained unversioned rules" in caplog.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: {:"),
        ('{"kind": "Policy", "apiVersion": "v1"}', "it is no Policy of abac.authorization.kubernetes.io/v1beta1"),
        ('{"user": 1}', "user is a text"),
        ('{"readonly": "yes"}', "readonly is true or false"),
        ("[]", "a policy is an object"),
        (f'{{{HEAD}, "spec": ""}}', "spec is an object"),
        ('{"apiVersion": "abac.authorization.kubernetes.io/v1beta1"}', "it is no Policy of"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "policies"
    path.write_text(f"\n{line}\n")
    with pytest.raises(ConfigFileError) as refused:
        read_policies(path)
    assert str(path) in str(refused.value)
    assert message in str(refused.value)


def test_the_server_asks_the_policies_and_tells_what_they_allow(tmp_path: Path) -> None:
    path = tmp_path / "policies"
    path.write_text(FILE)

    async def work(world: World) -> None:
        allowed = await world.raw("GET", "/api/v1/namespaces/projectCaribou/configmaps", user=("alice", ()))
        assert allowed.status == 200
        refused = await world.json("GET", "/api/v1/namespaces/a/configmaps", user=("alice", ()))
        assert refused["message"].endswith('in the namespace "a": No policy matched.')
        body = {"spec": {"namespace": "a"}}
        rules = await world.json(
            "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", body, user=("bob", ())
        )
        assert {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"]} in rules["status"]["resourceRules"]
        assert rules["status"]["incomplete"] is False
        # RBAC is not asked here, so what it would allow is no right of anybody's.
        assert not [rule for rule in rules["status"]["nonResourceRules"] if "/healthz" in rule["nonResourceURLs"]]

    run(work, Config(seed=1, authorization_modes=("ABAC",), authorization_policy=path))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            Config(authorization_modes=("ABAC",)),
            "--authorization-policy-file and the authorization mode ABAC need each",
        ),
        (Config(authorization_modes=("Webhook",)), "--authorization-webhook-config-file and the authorization mode"),
        (Config(authorization_modes=("RBAC", "RBAC")), "has mode specified more than once"),
        (Config(authorization_modes=("Magic",)), "authorization mode 'Magic' is not supported; choose from ABAC,"),
    ],
)
def test_flags_that_do_not_fit_together_are_refused(config: Config, message: str) -> None:
    async def work(world: World) -> None: ...

    with pytest.raises(ValueError, match=message):
        run(work, config)
