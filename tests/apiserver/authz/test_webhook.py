"""Authorization webhooks: what they are asked, how long an answer is kept, conditions, failures, and the file of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Event, current_thread
from typing import Any

import pytest
import yaml

from tests.apiserver.apiworld import World, run
from tests.apiserver.reviewer import Reviewer, reviewing, run_real
from tiphys.apiserver.authz.conditions import MatchConditions
from tiphys.apiserver.authz.configuration import read_authorizers
from tiphys.apiserver.config import Config, WebhookSettings
from tiphys.apiserver.configfile import LOOK_SECONDS, ConfigFileError
from tiphys.client import resources as R

Object = dict[str, Any]

MAPS = "/api/v1/namespaces/{}/configmaps"


def by_user(review: Object) -> Object | int:
    """The user's name says what becomes of the request."""
    match review["spec"]["user"]:
        case "allowed":
            return {"allowed": True}
        case "denied":
            return {"allowed": False, "denied": True, "reason": "not you"}
        case "both":
            return {"allowed": True, "denied": True}
        case "broken":
            return 400
    return {"allowed": False, "reason": "never heard of"}


def settings(reviewer: Reviewer, folder: Path, **more: Any) -> WebhookSettings:
    return WebhookSettings(reviewer.kubeconfig(folder), **more)


@pytest.mark.parametrize(
    ("user", "denies", "status", "ending"),
    [
        ("allowed", False, 200, ""),
        ("denied", False, 403, 'in the namespace "a": not you'),
        ("unknown", False, 403, 'in the namespace "a": never heard of'),
        ("both", False, 500, "returned both allow and deny response\n"),
        ("broken", False, 500, "an error on the server"),
        ("broken", True, 500, "an error on the server"),
    ],
)
def test_its_answer_decides(tmp_path: Path, user: str, denies: bool, status: int, ending: str) -> None:
    async def work(world: World) -> None:
        answer = await world.raw("GET", MAPS.format("a"), user=(user, ("g",)))
        assert answer.status == status
        assert isinstance(answer.body, bytes)
        if user == "broken":
            assert answer.body.startswith(b'Internal Server Error: "/api/v1/namespaces/a/configmaps": ')
        else:
            assert ending in answer.body.decode().replace("\\", "")

    with reviewing(by_user) as reviewer:
        config = Config(
            seed=1, authorization_modes=("Webhook",), authorization_webhook=settings(reviewer, tmp_path, denies=denies)
        )
        run_real(work, config)


def test_a_failure_leaves_the_word_to_the_next_unless_it_denies(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        assert (await world.raw("GET", MAPS.format("a"), user=("broken", ()))).status == 200

    with reviewing(by_user) as reviewer:
        webhook = settings(reviewer, tmp_path)
        run_real(work, Config(seed=1, authorization_modes=("Webhook", "AlwaysAllow"), authorization_webhook=webhook))


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_the_review_tells_who_wants_what(tmp_path: Path, version: str) -> None:
    async def work(world: World) -> None:
        query = "?fieldSelector=metadata.name!%3Dx,spec.a%3Db&labelSelector=a%20in%20(b,c),!d,e"
        user = ("allowed", ("g",))
        assert (await world.raw("GET", MAPS.format("a") + query, user=user)).status in (200, 400)
        assert (await world.raw("GET", MAPS.format("a") + "/x", user=user)).status == 404
        assert (await world.raw("GET", "/version", user=user)).status == 200

    with reviewing(by_user) as reviewer:
        webhook = settings(reviewer, tmp_path, version=version)
        run_real(work, Config(seed=1, authorization_modes=("Webhook",), authorization_webhook=webhook))
        specs = [review["spec"] for review in reviewer.asked]
        assert reviewer.asked[0]["apiVersion"] == f"authorization.k8s.io/{version}"
    who = {"user": "allowed", "groups" if version == "v1" else "group": ["g", "system:authenticated"]}
    base = {"namespace": "a", "group": "", "version": "v1", "resource": "configmaps"}
    del base["group"]
    assert specs == [
        {
            **who,
            "resourceAttributes": {
                **base,
                "verb": "list",
                "fieldSelector": {
                    "requirements": [
                        {"key": "metadata.name", "operator": "NotIn", "values": ["x"]},
                        {"key": "spec.a", "operator": "In", "values": ["b"]},
                    ]
                },
                "labelSelector": {
                    "requirements": [
                        {"key": "a", "operator": "In", "values": ["b", "c"]},
                        {"key": "d", "operator": "DoesNotExist"},
                        {"key": "e", "operator": "Exists"},
                    ]
                },
            },
        },
        {**who, "resourceAttributes": {**base, "verb": "get", "name": "x"}},
        {**who, "nonResourceAttributes": {"path": "/version", "verb": "get"}},
    ]


@pytest.mark.parametrize(
    ("authorized", "unauthorized", "asked"),
    [
        (60.0, 60.0, ["allowed", "denied"]),
        (60.0, 0.0, ["allowed", "denied", "denied"]),
        (0.0, 0.0, ["allowed", "allowed", "denied", "denied"]),
    ],
)
def test_an_answer_is_kept_for_a_while(
    tmp_path: Path, authorized: float, unauthorized: float, asked: list[str]
) -> None:
    async def work(world: World) -> None:
        for user in ("allowed", "denied"):
            for _ in range(2):
                await world.raw("GET", MAPS.format("a"), user=(user, ()))

    with reviewing(by_user) as reviewer:
        webhook = settings(reviewer, tmp_path, authorized=authorized, unauthorized=unauthorized)
        run_real(work, Config(seed=1, authorization_modes=("Webhook",), authorization_webhook=webhook))
        assert [review["spec"]["user"] for review in reviewer.asked] == asked


def authorizers(*rows: Object | None) -> str:
    head = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration"}
    return yaml.safe_dump({**head, "authorizers": list(rows)})


def webhook(kubeconfig: Path, name: str = "w", *conditions: str, **more: Any) -> Object:
    row: Object = {
        "timeout": "3s",
        "subjectAccessReviewVersion": "v1",
        "failurePolicy": "NoOpinion",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": str(kubeconfig)},
        **more,
    }
    if conditions:
        row["matchConditionSubjectAccessReviewVersion"] = "v1"
        row["matchConditions"] = [{"expression": text} for text in conditions]
    return {"type": "Webhook", "name": name, "webhook": row}


RBAC = {"type": "RBAC", "name": "rbac"}
ALLOW = {"type": "AlwaysAllow", "name": "alwaysallow"}


def test_conditions_decide_which_of_several_is_asked(tmp_path: Path) -> None:
    about_a = "has(request.resourceAttributes) && request.resourceAttributes.namespace == 'a'"
    path = tmp_path / "authorizers.yaml"

    async def work(world: World) -> None:
        assert (await world.raw("GET", MAPS.format("a"), user=("allowed", ()))).status == 200
        assert (await world.raw("GET", MAPS.format("b"), user=("allowed", ()))).status == 403
        # A condition that cannot be evaluated counts as the failure policy says, and the rest is not asked.
        assert (await world.raw("GET", "/logs/x", user=("allowed", ()))).status == 500
        text = (await world.raw("GET", "/metrics")).body
        assert isinstance(text, bytes)
        shown = text.decode()
        assert 'apiserver_authorization_decisions_total{decision="allowed",name="first",type="Webhook"} 1.0' in shown
        assert 'apiserver_authorization_webhook_evaluations_total{name="first",result="success"} 1.0' in shown
        assert 'apiserver_authorization_match_condition_exclusions_total{name="first",type="Webhook"} 2.0' in shown
        errors = 'apiserver_authorization_match_condition_evaluation_errors_total{name="second",type="Webhook"} 1.0'
        assert errors in shown

    with reviewing(by_user) as reviewer:
        kubeconfig = reviewer.kubeconfig(tmp_path)
        first = webhook(kubeconfig, "first", about_a, "request.user == 'allowed'")
        second = webhook(kubeconfig, "second", "request.resourceAttributes.namespace == 'c'")
        path.write_text(authorizers(first, second, RBAC))
        run_real(work, Config(seed=1, authorization_config=path))
        assert len(reviewer.asked) == 1


def test_conditions_that_take_long_are_evaluated_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for a review chooses the texts that they look at."""
    path = tmp_path / "authorizers.yaml"
    heavy = "request.resourceAttributes.name.split('').all(a, request.resourceAttributes.name.contains(a))"
    ended: list[str] = []
    hold = MatchConditions.hold

    def noted(self: MatchConditions, spec: Object) -> bool:
        held = hold(self, spec)
        ended.append(current_thread().name)
        return held

    async def work(world: World) -> None:
        for name in ("a", "a" * 2_000):
            body = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "name": name}}}
            await world.json("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body, user=("u", ()))

    monkeypatch.setattr(MatchConditions, "hold", noted)
    with reviewing(by_user) as reviewer:
        about = f"!has(request.resourceAttributes) || request.resourceAttributes.resource != 'pods' || {heavy}"
        path.write_text(authorizers(RBAC, webhook(reviewer.kubeconfig(tmp_path), "w", about)))
        run_real(work, Config(seed=1, authorization_config=path))
    assert [name.startswith("aside") for name in ended] == [False, True]


def test_a_webhook_that_is_asked_while_it_leaves_the_file_is_heard(tmp_path: Path) -> None:
    """Its connection must not be closed under a question: no opinion would let the next authorizer allow it."""
    path, let = tmp_path / "authorizers.yaml", Event()

    def slow(review: Object) -> Object:
        assert let.wait(60)
        return {"allowed": False, "denied": True}

    async def work(world: World) -> None:
        request = asyncio.ensure_future(world.raw("GET", MAPS.format("a"), user=("u", ())))
        while not reviewer.asked:
            await asyncio.sleep(0.01)
        path.write_text(authorizers(ALLOW))
        authorization = world.server.authorization
        for _ in range(2):
            authorization._look(authorization._file)  # type: ignore[arg-type]
            await authorization._retired.sweep()
        assert (await world.raw("GET", MAPS.format("a"), user=("u", ()))).status == 200
        let.set()
        assert (await request).status == 403

    with reviewing(slow) as reviewer:
        asked = webhook(reviewer.kubeconfig(tmp_path), timeout="30s", failurePolicy="NoOpinion")
        path.write_text(authorizers(asked, ALLOW))
        run_real(work, Config(seed=1, authorization_config=path))


def test_a_file_that_is_being_written_does_not_count(tmp_path: Path) -> None:
    """What is there of it may be a whole document, of fewer authorizers."""
    path = tmp_path / "authorizers.yaml"

    async def work(world: World) -> None:
        authorization = world.server.authorization
        assert authorization._file is not None
        for text in (authorizers(ALLOW), authorizers(ALLOW) + "# more", authorizers(RBAC)):
            path.write_text(text)
            authorization._look(authorization._file)
            assert (await world.raw("GET", MAPS.format("a"), user=("u", ()))).status == 403
        await world.clock.sleep(LOOK_SECONDS + 1)
        assert (await world.raw("GET", MAPS.format("a"), user=("u", ()))).status == 403

    path.write_text(authorizers(RBAC))
    run(work, Config(seed=1, authorization_config=path))


def test_another_text_that_says_the_same_leaves_what_a_webhook_has_answered(tmp_path: Path) -> None:
    path = tmp_path / "authorizers.yaml"

    async def work(world: World) -> None:
        authorization = world.server.authorization
        assert authorization._file is not None
        assert (await world.raw("GET", MAPS.format("a"), user=("allowed", ()))).status == 200
        path.write_text(path.read_text() + "# more\n")
        for _ in range(2):
            authorization._look(authorization._file)
        assert (await world.raw("GET", MAPS.format("a"), user=("allowed", ()))).status == 200
        assert b"automatic_reloads_total{" not in (await world.raw("GET", "/metrics")).body  # type: ignore[operator]

    with reviewing(by_user) as reviewer:
        path.write_text(authorizers(webhook(reviewer.kubeconfig(tmp_path), authorizedTTL="0s")))
        run_real(work, Config(seed=1, authorization_config=path))
        assert len(reviewer.asked) == 1  # for as long as by default, which nothing stands for


@pytest.mark.parametrize("status", [{"allowed": "false"}, {"allowed": 1}, {"allowed": True, "reason": 1}])
def test_an_answer_that_is_no_review_allows_nothing(tmp_path: Path, status: dict[str, object]) -> None:
    path = tmp_path / "authorizers.yaml"

    async def work(world: World) -> None:
        assert (await world.raw("GET", MAPS.format("a"), user=("u", ()))).status == 500

    with reviewing(lambda _: status) as reviewer:
        path.write_text(authorizers(webhook(reviewer.kubeconfig(tmp_path), failurePolicy="NoOpinion")))
        run_real(work, Config(seed=1, authorization_config=path))


@pytest.mark.parametrize(
    ("rows", "error", "incomplete"),
    [
        ([RBAC], 'clusterrole.rbac.authorization.k8s.io "none" not found', False),
        ([ALLOW], "", False),
        ([{"type": "Node", "name": "node"}], "node authorizer does not support user rule resolution", True),
    ],
)
def test_a_review_of_rules_shows_those_of_the_authorizers_that_are_asked(
    tmp_path: Path, rows: list[Object], error: str, incomplete: bool
) -> None:
    path = tmp_path / "authorizers.yaml"
    node = ("system:node:n", ("system:nodes",))

    async def work(world: World) -> None:
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "none"}
        for name in ("one", "two"):  # the same error twice is said once
            subjects = [{"apiGroup": reference["apiGroup"], "kind": "Group", "name": "system:nodes"}]
            binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": subjects}
            await world.admin.create(R.CLUSTER_ROLE_BINDINGS, binding)
        await world.settle()
        body = {"spec": {"namespace": "a"}}
        user = ("system:node:n", ("system:nodes", "system:masters"))
        shown = await world.json("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", body, user=user)
        status = shown["status"]
        assert (status.get("evaluationError", ""), status["incomplete"]) == (error, incomplete)
        everything = {"verbs": ["*"], "nonResourceURLs": ["*"]}
        assert (everything in status["nonResourceRules"]) == (rows[0] in (ALLOW, RBAC))  # cluster-admin, in RBAC
        assert (status["resourceRules"] == []) == (rows[0]["type"] == "Node")
        if rows == [RBAC]:
            refused = await world.json("GET", MAPS.format("a"), user=node)
            assert refused["message"].endswith(f"RBAC: {error}")

    path.write_text(authorizers(*rows))
    run(work, Config(seed=1, authorization_config=path))


def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "authorizers.yaml"

    async def status(world: World) -> int:
        return int((await world.raw("GET", MAPS.format("a"), user=("u", ()))).status)

    async def reloads(world: World) -> dict[str, str]:
        text = (await world.raw("GET", "/metrics")).body
        assert isinstance(text, bytes)
        prefix = "apiserver_authorization_config_controller_automatic_reloads_total{"
        rows = [line for line in text.decode().splitlines() if line.startswith(prefix)]
        return {line.partition('status="')[2].partition('"')[0]: line.rpartition(" ")[2] for line in rows}

    async def work(world: World) -> None:
        assert await status(world) == 403
        path.write_text(authorizers(RBAC, ALLOW))
        await world.clock.sleep(LOOK_SECONDS + 1)
        assert await status(world) == 200
        assert await reloads(world) == {"success": "1.0"}
        for wrong in (
            "{",
            authorizers(),
            authorizers({"type": "AlwaysDeny", "name": "alwaysdeny"}),
            authorizers(RBAC, {"type": "Node", "name": "node"}),
        ):
            path.write_text(wrong)
            await world.clock.sleep(LOOK_SECONDS + 1)
            assert await status(world) == 200
        assert await reloads(world) == {"success": "1.0", "failure": "4.0"}
        path.write_text(authorizers(RBAC))
        await world.clock.sleep(LOOK_SECONDS + 1)
        assert await status(world) == 403

    path.write_text(authorizers(RBAC))
    run(work, Config(seed=1, authorization_config=path))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "authorizers[0].type: Required value"),
        ({"type": "Magic", "name": "m"}, 'authorizers[0].type: Unsupported value: "Magic"'),
        ({"type": "RBAC"}, "authorizers[0].name: Required value"),
        ({"type": "RBAC", "name": "other"}, 'authorizers[0].name: Invalid value: "other": expected name rbac'),
        ({"type": "RBAC", "name": "rbac", "webhook": {}}, "may only be specified when type=Webhook"),
        ({"type": "Webhook", "name": "w"}, "authorizers[0].webhook: Required value: required when type=Webhook"),
        ({"type": "Webhook", "name": "W_"}, "authorizer name is invalid"),
        ({"type": "RBAC", "name": "rbac", "more": 1}, 'unknown field "authorizers[0].more"'),
        ({"webhook": {"timeout": "31s"}}, 'timeout: Invalid value: "31s": must be > 0s and <= 30s'),
        ({"webhook": {"timeout": None}}, "timeout: Required value"),
        ({"webhook": {"timeout": ""}}, 'timeout: Invalid value: "": time: invalid duration'),
        (None, "authorizers[0].type: Required value"),
        ({"webhook": {"matchConditions": [None]}}, "matchConditions[0].expression: Required value"),
        ({"webhook": {"authorizedTTL": "-1s"}}, 'authorizedTTL: Invalid value: "-1s": must be > 0s'),
        ({"webhook": {"subjectAccessReviewVersion": "v2"}}, 'Version: Unsupported value: "v2"'),
        ({"webhook": {"failurePolicy": "Maybe"}}, 'failurePolicy: Unsupported value: "Maybe"'),
        (
            {"webhook": {"connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "k"}}},
            "must be an absolute path",
        ),
        ({"webhook": {"connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "/none"}}}, "error loading file"),
        ({"webhook": {"connectionInfo": {"type": "InClusterConfig"}}}, "not in a pod with a service account"),
        (
            {"webhook": {"connectionInfo": {"type": "InClusterConfig", "kubeConfigFile": "/k"}}},
            "can only be set when type=KubeConfigFile",
        ),
        ({"webhook": {"matchConditions": [{"expression": "true"}]}}, "required if match conditions are specified"),
        (
            {
                "webhook": {
                    "matchConditionSubjectAccessReviewVersion": "v1",
                    "matchConditions": [{"expression": t} for t in ("", "1", "x", "true", "true")],
                }
            },
            'matchConditions[1].expression: Invalid value: "1": must evaluate to bool but got int',
        ),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_the_field(tmp_path: Path, row: Object | None, message: str) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("")
    if row is not None and set(row) == {"webhook"}:
        full = webhook(kubeconfig)
        row = {**full, "webhook": {**full["webhook"], **row["webhook"]}}
    with pytest.raises(ConfigFileError) as refused:
        read_authorizers(authorizers(row).encode())
    assert message in str(refused.value)
