"""Whose token it is, for whom it is, and how it is sent."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.apiserver.apiworld import World, run
from tiphys.api import jwt
from tiphys.api.credentials import bearer_token, has_space_before_token
from tiphys.apiserver.audit.config import AuditConfig, LogConfig
from tiphys.apiserver.audit.policy import read_policy
from tiphys.apiserver.authn.authenticator import authorization
from tiphys.apiserver.authn.serviceaccounts import WARN_AFTER
from tiphys.apiserver.call import User
from tiphys.apiserver.config import Config
from tiphys.client import resources as R
from tiphys.controllers.access.tokens import legacy_claims
from tiphys.wire.http import Headers, Request, Response

REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
SELF = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
ISSUER = "https://kubernetes.default.svc.cluster.local"
SIGNING = jwt.new_key()
CONFIG = Config(
    seed=1,
    tokens={"secret": User("bob", ("devs",))},
    api_audiences=("api", ISSUER),
    service_account_signing_key=SIGNING,
)
OTHERS = "base64url.bearer.authorization.k8s.io."


async def issue(world: World, *audiences: str) -> str:
    request = {"spec": {"audiences": list(audiences)}}
    path = "/api/v1/namespaces/a/serviceaccounts/default/token"
    return str((await world.json("POST", path, request))["status"]["token"])


async def review(world: World, token: str, *audiences: str) -> dict:
    answer = await world.json("POST", REVIEWS, {"spec": {"token": token, "audiences": list(audiences)}})
    return answer["status"]


def test_a_review_names_the_audiences_that_token_and_question_share() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        token = await issue(world, "vault", "other")
        assert (await review(world, token, "vault", "nope"))["audiences"] == ["vault"]
        assert (await review(world, token, "other", "vault"))["audiences"] == ["other", "vault"]
        refused = await review(world, token, "nope", "no")
        assert refused == {
            "user": {},
            "error": '[invalid bearer token, token audiences ["vault" "other"] is invalid'
            ' for the target audiences ["nope" "no"]]',
        }
        assert "error" in await review(world, token)
        own = await issue(world)
        assert (await review(world, own))["audiences"] == ["api", ISSUER]

    run(work, CONFIG)


def test_static_tokens_are_for_the_server_alone() -> None:
    async def work(world: World) -> None:
        assert (await review(world, "secret"))["audiences"] == ["api", ISSUER]
        assert (await review(world, "secret", "vault", "api"))["audiences"] == ["api"]
        assert await review(world, "secret", "vault") == {"user": {}, "error": "invalid bearer token"}

    run(work, CONFIG)


@pytest.mark.parametrize(
    ("header", "token", "warns"),
    [
        ("Bearer t", "t", False),
        ("bearer t", "t", False),
        ("BEARER t", "t", False),
        ("  Bearer t  ", "t", False),
        ("Bearer t more words", "t", False),
        ("Bearer  t", "", True),
        ("Bearer   t", "", True),
        ("Bearer", "", False),
        ("Bearer ", "", False),
        ("Bearer\tt", "", False),
        ("Basic t", "", False),
        ("Bearert", "", False),
        ("", "", False),
    ],
)
def test_the_header_is_read_as_upstream_reads_it(header: str, token: str, warns: bool) -> None:
    assert (bearer_token(header), has_space_before_token(header)) == (token, warns)


def test_of_several_headers_the_first_counts() -> None:
    headers = Headers.of([("authorization", "Bearer one"), ("authorization", "Bearer two")])
    assert bearer_token(authorization(Request("GET", "/", headers=headers))) == "one"


def test_a_token_behind_two_spaces_is_ignored_with_a_warning() -> None:
    async def work(world: World) -> None:
        answer = await world.raw("GET", "/version", user=None, authorization="Bearer  secret")
        assert answer.status == 200
        assert "contains extra space before the bearer token, and is ignored" in answer.headers["Warning"]
        refused = await world.raw("GET", "/api/v1/pods", user=None, authorization="Bearer  secret")
        assert b"system:anonymous" in bytes(refused.body)

    run(work, CONFIG)


def test_tokens_of_an_account_that_is_held_by_a_finalizer_end_with_it() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await world.admin.patch(R.SERVICE_ACCOUNTS, "default", {"metadata": {"finalizers": ["a.example/b"]}}, "a")
        token = await issue(world)
        await world.admin.delete(R.SERVICE_ACCOUNTS, "default", "a")
        assert (await review(world, token))["authenticated"]  # the clocks of several servers may differ by a minute
        await world.clock.sleep(62)
        assert (await review(world, token))["error"] == (
            "[invalid bearer token, service account a/default has been deleted]"
        )
        answer = await world.raw("POST", SELF, {}, user=None, authorization=f"Bearer {token}")
        assert answer.status == 401

    run(work, CONFIG)


def test_tokens_in_secrets_are_believed_while_the_secret_holds_them() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        account = await world.admin.get(R.SERVICE_ACCOUNTS, "default", "a")
        secret = {
            "metadata": {
                "name": "s",
                "namespace": "a",
                "annotations": {"kubernetes.io/service-account.name": "default"},
            },
            "type": "kubernetes.io/service-account-token",
        }
        token = jwt.signing_key(SIGNING).sign(legacy_claims(account, secret))
        assert (await review(world, token))["error"] == "[invalid bearer token, Token has been invalidated]"
        held = {**secret, "data": {"token": base64.b64encode(token.encode()).decode()}}
        await world.admin.create(R.SECRETS, held, namespace="a")
        known = await review(world, token)
        assert known["user"]["username"] == "system:serviceaccount:a:default"
        assert known["audiences"] == ["api", ISSUER]
        await world.settle()
        used = (await world.admin.get(R.SECRETS, "s", "a"))["metadata"]
        assert used["labels"] == {"kubernetes.io/legacy-token-last-used": used["creationTimestamp"][:10]}
        await review(world, token)
        assert (await world.admin.get(R.SECRETS, "s", "a"))["metadata"] == used, "one write a day"
        labels = {"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}
        await world.admin.patch(R.SECRETS, "s", {"metadata": {"labels": labels}}, "a")
        await world.settle()
        assert "has been marked invalid" in (await review(world, token))["error"]
        await world.admin.patch(R.SECRETS, "s", {"metadata": {"labels": None}, "data": {"token": "eA=="}}, "a")
        await world.settle()
        assert "does not match server's copy" in (await review(world, token))["error"]

    run(work, CONFIG)


def audited(folder: Path) -> Config:
    rules = [{"level": "Metadata", "users": ["system:serviceaccount:a:default", "system:anonymous"]}]
    document = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}
    return replace(CONFIG, audit=AuditConfig(read_policy(document), LogConfig(str(folder / "audit.log"))))


def annotations(folder: Path) -> list[dict[str, str]]:
    """Of the events, what authentication said."""
    said = [json.loads(line).get("annotations", {}) for line in (folder / "audit.log").read_text().splitlines()]
    return [{key: text for key, text in each.items() if key.startswith("authentication.k8s.io/")} for each in said]


@pytest.mark.parametrize("generated", [True, False])
def test_the_use_of_a_token_in_a_secret_is_remarked_on_each_time(*, generated: bool, tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        account = await world.admin.get(R.SERVICE_ACCOUNTS, "default", "a")
        if generated:
            await world.admin.patch(R.SERVICE_ACCOUNTS, "default", {"secrets": [{"name": "s"}]}, "a")
        meta = {"name": "s", "namespace": "a", "annotations": {"kubernetes.io/service-account.name": "default"}}
        secret = {"metadata": meta, "type": "kubernetes.io/service-account-token"}
        token = jwt.signing_key(SIGNING).sign(legacy_claims(account, secret))
        held = {**secret, "data": {"token": base64.b64encode(token.encode()).decode()}}
        await world.admin.create(R.SECRETS, held, namespace="a")
        await world.settle()
        for _ in range(2):
            answer = await world.raw("POST", SELF, {}, user=None, authorization=f"Bearer {token}")
            warning = answer.headers.get("Warning", "")
            assert ("instead of auto-generated secret-based tokens" in warning) is generated
        labels = {"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}
        await world.admin.patch(R.SECRETS, "s", {"metadata": {"labels": labels}}, "a")
        await world.clock.sleep(30)
        refused = await world.raw("POST", SELF, {}, user=None, authorization=f"Bearer {token}")
        assert refused.status == 401
        figures = (await world.raw("GET", "/metrics")).body.decode()
        kind = "auto" if generated else "manual"
        assert f"serviceaccount_legacy_{kind}_token_uses_total 1.0" in figures
        assert "serviceaccount_invalid_legacy_auto_token_uses_total 1.0" in figures

    run(work, audited(tmp_path))
    kind = "autogenerated" if generated else "manual"
    first, second, refused = annotations(tmp_path)
    assert first == second == {f"authentication.k8s.io/legacy-token-{kind}-secret": "s"}
    assert refused == {"authentication.k8s.io/legacy-token-invalidated": "s/a"}


def test_a_token_that_its_client_did_not_reload_is_remarked(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        made = await world.admin.create(R.PODS, pod, namespace="a")
        bound = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": made["metadata"]["uid"]}
        request = {"spec": {"expirationSeconds": WARN_AFTER, "boundObjectRef": bound}}
        path = "/api/v1/namespaces/a/serviceaccounts/default/token"
        token = (await world.json("POST", path, request))["status"]["token"]
        for wait in (0, WARN_AFTER + 5):
            await world.clock.sleep(wait)
            answer = await world.raw("POST", SELF, {}, user=None, authorization=f"Bearer {token}")
            assert answer.status == 201

    run(work, audited(tmp_path))
    early, late = annotations(tmp_path)
    assert early == {}
    text = late["authentication.k8s.io/stale-token"]
    assert text.startswith("subject: system:serviceaccount:a:default, seconds after warning threshold: ")


@pytest.mark.parametrize(
    ("offered", "status"),
    [
        (f"{OTHERS}c2VjcmV0, v5.channel.k8s.io", 400),  # known: a pod without a node cannot be connected to
        (f"{OTHERS}d3Jvbmc, v5.channel.k8s.io", 401),
        (f"{OTHERS}c2VjcmV0", 401),
        (f"{OTHERS}c2VjcmV0, {OTHERS}c2VjcmV0, v5.channel.k8s.io", 401),
        (f"{OTHERS}!, v5.channel.k8s.io", 401),
        ("v5.channel.k8s.io", 403),
    ],
)
def test_browsers_send_their_token_as_a_subprotocol(offered: str, status: int) -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        await world.json("POST", "/api/v1/namespaces/a/pods", pod)
        answer: Response = await world.raw(
            "GET",
            "/api/v1/namespaces/a/pods/p/exec?command=ls",
            user=None,
            upgrade="websocket",
            connection="Upgrade",
            sec_websocket_protocol=offered,
        )
        assert answer.status == status, answer.body

    run(work, replace(CONFIG, tokens={"secret": User("root", ("system:masters",))}))


def test_strangers_are_refused_where_everybody_may_do_everything() -> None:
    async def work(world: World) -> None:
        assert (await world.raw("GET", "/version", user=None)).status == 401
        assert (await world.raw("GET", "/version", user=("eve", ()))).status == 200

    run(work, Config(seed=1, authorization_modes=("RBAC", "AlwaysAllow")))
