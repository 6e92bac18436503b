"""Tokens of OpenID Connect issuers: whose they are, which are refused, and the file that describes the issuers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.apiserver.apiworld import World, run
from tests.apiserver.authn.issuer import IssuerServer, Key, issuing
from tests.apiserver.reviewer import reviewing, run_real
from tiphys.apiserver.authn.authenticator import Rejected
from tiphys.apiserver.authn.oidc.configuration import read_settings
from tiphys.apiserver.authn.oidc.flags import issuer_of
from tiphys.apiserver.authn.oidc.settings import IssuerSettings
from tiphys.apiserver.authn.oidc.signatures import ALGORITHMS
from tiphys.apiserver.authn.oidc.tokens import OidcTokens
from tiphys.apiserver.call import User
from tiphys.apiserver.config import Config, OidcFlags, TokenWebhook
from tiphys.apiserver.configfile import ConfigFileError
from tiphys.runtime.clock import SystemClock

Object = dict[str, Any]

REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


async def who(world: World, token: str) -> Object | int:
    """Who the server thinks has sent a token; or the status of the answer."""
    bearer = {"authorization": f"Bearer {token}"}
    answer = await world.json("POST", REVIEW, {}, user=None, **bearer)
    found: Object | int = answer["status"]["userInfo"] if answer["kind"] == "SelfSubjectReview" else answer["code"]
    return found


def flags(server: IssuerServer, **more: Any) -> OidcFlags:
    return OidcFlags(server.url, "me", server.authority.pem, **more)


def row(server: IssuerServer, **more: Any) -> Object:
    """An issuer in the file."""
    return {
        "issuer": {"url": server.url, "audiences": ["me"], "certificateAuthority": server.authority.pem.decode()},
        "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
        **more,
    }


def document(*rows: Object, **more: Any) -> str:
    head = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration"}
    return yaml.safe_dump({**head, "jwt": list(rows), **more})


def with_tokens(settings: list[IssuerSettings], work: Callable[[OidcTokens], Awaitable[None]]) -> None:
    async def main() -> None:
        tokens = OidcTokens(settings, SystemClock())
        await tokens.run()
        await work(tokens)

    asyncio.run(main())


def test_the_server_knows_the_bearer_of_a_token() -> None:
    with issuing() as server:

        async def work(world: World) -> None:
            assert world.server.authentication.issuers is not None
            while not isinstance(found := await who(world, server.token(groups=["g", "h"], jti="1")), dict):
                await asyncio.sleep(0.01)  # until the issuer has been asked
            assert found == {
                "username": f"{server.url}#jane",
                "groups": ["oidc:g", "oidc:h", "system:authenticated"],
                "extra": {"authentication.kubernetes.io/credential-id": ["JTI=1"]},
            }
            assert await who(world, server.token(aud="another")) == 401
            assert await who(world, "not.a.token") == 401

        run_real(work, Config(seed=1, oidc=flags(server, groups_claim="groups", groups_prefix="oidc:")))


CASES: list[tuple[Object, Object, User | str]] = [
    # flags, claims, and the user or what is said of the token
    ({}, {}, User("URL#jane")),
    ({"username_prefix": "-"}, {}, User("jane")),
    ({"username_prefix": "x:"}, {}, User("x:jane")),
    ({"username_claim": "email"}, {"email": "j@x"}, User("j@x")),
    ({"username_claim": "email"}, {"email": "j@x", "email_verified": True}, User("j@x")),
    ({"username_claim": "email"}, {"email": "j@x", "email_verified": False}, "oidc: email not verified"),
    ({"username_claim": "email"}, {"email": "j@x", "email_verified": "yes"}, "oidc: parse 'email_verified' claim"),
    ({"username_claim": "email"}, {}, 'oidc: parse username claims "email": claim not present'),
    ({"username_claim": "n"}, {"n": 1}, 'oidc: parse username claims "n"'),
    ({"groups_claim": "g"}, {"g": "one"}, User("URL#jane", ("one",))),
    ({"groups_claim": "g"}, {"g": ["a", "b"]}, User("URL#jane", ("a", "b"))),
    ({"groups_claim": "g"}, {"g": [1]}, 'oidc: parse groups claim "g"'),
    ({"groups_claim": "g"}, {}, User("URL#jane")),
    ({"required_claims": (("hd", "x"),)}, {"hd": "x"}, User("URL#jane")),
    ({"required_claims": (("hd", "x"),)}, {"hd": "y"}, "required claim hd value does not match. Got = y, want = x"),
    ({"required_claims": (("hd", "x"),)}, {}, "oidc: required claim hd not present in ID token"),
    ({}, {"aud": ["you", "me"]}, User("URL#jane")),
    ({}, {"aud": "you"}, 'oidc: expected audience in ["me"]'),
    ({}, {"aud": None}, 'oidc: expected audience in ["me"]'),
    ({}, {"exp": 1}, "oidc: token is expired"),
    ({}, {"exp": None}, "oidc: token is expired"),
    ({}, {"nbf": 99999999999}, "before the nbf (not before) time"),
]


@pytest.mark.parametrize(("set_to", "claims", "outcome"), CASES)
def test_claims_make_the_user(set_to: Object, claims: Object, outcome: User | str) -> None:
    with issuing() as server:

        async def work(tokens: OidcTokens) -> None:
            token = server.token(**claims)
            if isinstance(outcome, User):
                wanted = User(outcome.name.replace("URL", server.url), outcome.groups)
                assert await tokens.user_of(token) == wanted
            else:
                with pytest.raises(Rejected) as refused:
                    await tokens.user_of(token)
                assert outcome in str(refused.value)

        with_tokens([issuer_of(flags(server, **set_to), ())], work)


def elsewhere(url: str, **source: str) -> Object:
    """The claims of a token whose groups are at a URL."""
    return {"_claim_names": {"g": "src"}, "_claim_sources": {"src": {"endpoint": url, **source}}}


def test_groups_may_be_elsewhere_in_a_token_of_another_issuer() -> None:
    with issuing(Key("a")) as server, issuing(Key("b"), authority=server.authority) as other:
        other.elsewhere["/groups"] = ("secret", other.token(g=["far", "off"]))

        async def work(tokens: OidcTokens) -> None:
            token = server.token(**elsewhere(f"{other.url}/groups", access_token="secret"))
            for _ in range(3):
                assert await tokens.user_of(token) == User("jane", ("far", "off"))
            assert other.asked.count("/.well-known/openid-configuration") == 1
            assert other.asked.count("/keys") == 1
            own = server.token(g=["own"], **elsewhere(f"{other.url}/groups"))
            assert await tokens.user_of(own) == User("jane", ("own",))
            aggregated = server.token(**elsewhere("", JWT="x"))
            assert await tokens.user_of(aggregated) == User("jane")

        with_tokens([issuer_of(flags(server, groups_claim="g", username_prefix="-"), ())], work)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"access_token": "guessed"}, "/groups: the answer is 401"),
        ({"aud": "you"}, 'expected audience in ["me"]'),
        ({"exp": 1}, "token is expired"),
        ({"key": Key("b")}, "failed to verify"),
        ({"iss": "https://127.0.0.1:1"}, "https://127.0.0.1:1/.well-known/openid-configuration"),
        ({"g": None}, "did not contain claim: g"),
        ({"claims": {"_claim_sources": None}}, "oidc: no claim sources"),
        ({"claims": {"_claim_sources": {}}}, "contained a source src missing in _claims_sources"),
        ({"claims": {"_claim_sources": {"src": "x"}}}, "could not parse claim sources"),
        ({"claims": {"_claim_names": ["g"]}}, "error parsing distributed claim names"),
        ({"claims": {"_claim_sources": {"src": {"endpoint": "http://127.0.0.1/"}}}}, "is not a URL of HTTPS"),
    ],
)
def test_groups_from_elsewhere_are_believed_only_if_they_are_signed_for_us(change: Object, said: str) -> None:
    with issuing(Key("a")) as server, issuing(Key("b", "ES256"), authority=server.authority) as other:
        claims = {"g": ["far"], **{name: change[name] for name in ("aud", "exp", "iss", "g") if name in change}}
        other.elsewhere["/groups"] = ("secret", other.token(change.get("key"), **claims))
        source = elsewhere(f"{other.url}/groups", access_token=change.get("access_token", "secret"))

        async def work(tokens: OidcTokens) -> None:
            with pytest.raises(Rejected) as refused:
                await tokens.user_of(server.token(**{**source, **change.get("claims", {})}))
            assert "oidc: could not expand distributed claims: " in str(refused.value)
            assert said in str(refused.value)

        algorithms = ("RS256", "ES256")
        with_tokens([issuer_of(flags(server, groups_claim="g", algorithms=algorithms), ())], work)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_verified_and_only_those_that_are_believed(algorithm: str) -> None:
    key = Key("k", algorithm)
    with issuing(key) as server:

        async def work(tokens: OidcTokens) -> None:
            token = server.token()
            assert await tokens.user_of(token) is not None
            head, claims, signature = token.split(".")
            _, others, _ = server.token(sub="root").split(".")
            for forged in (f"{head}.{others}.{signature}", f"{head}.{claims}.{signature[:-8]}AAAAAAAA"):
                with pytest.raises(Rejected, match="failed to verify"):
                    await tokens.user_of(forged)

        with_tokens([issuer_of(flags(server, algorithms=(algorithm,)), ())], work)

        async def refused(tokens: OidcTokens) -> None:
            with pytest.raises(Rejected, match=f"unsupported algorithm {algorithm}"):
                await tokens.user_of(server.token())

        others = tuple(name for name in ALGORITHMS if name != algorithm)
        with_tokens([issuer_of(flags(server, algorithms=others), ())], refused)


def test_keys_rotate_and_are_asked_for_only_if_a_new_one_is_named() -> None:
    with issuing(Key("old", "ES256")) as server:

        async def work(tokens: OidcTokens) -> None:
            for _ in range(3):
                assert await tokens.user_of(server.token()) is not None
            assert server.asked.count("/keys") == 1
            old = server.token(sub="old")
            server.keys = [Key("new", "ES256")]
            stranger = Key("new", "ES256")
            await asyncio.sleep(1.01)  # the interval between two requests
            rotated = await asyncio.gather(*(tokens.user_of(server.token()) for _ in range(20)))
            assert all(user is not None for user in rotated)
            assert server.asked.count("/keys") == 2
            for token in (old, *(server.token(stranger) for _ in range(10))):
                with pytest.raises(Rejected, match="failed to verify"):
                    await tokens.user_of(token)
            assert server.asked.count("/keys") == 2

        with_tokens([issuer_of(flags(server, algorithms=("ES256",)), ())], work)


def test_a_token_of_another_issuer_is_none_of_ours() -> None:
    with issuing() as server:

        async def work(tokens: OidcTokens) -> None:
            assert await tokens.user_of(server.token(iss="https://elsewhere")) is None
            assert await tokens.user_of("a.b") is None

        with_tokens([issuer_of(flags(server), ())], work)


EXPRESSIONS: list[tuple[Object, Object, User | str]] = [
    (
        {"claimMappings": {"username": {"expression": "claims.sub + ':' + claims.?team.orValue('none')"}}},
        {},
        User("jane:none"),
    ),
    (
        {
            "claimMappings": {
                "username": {"expression": "claims.sub"},
                "groups": {"expression": "claims.roles.split(',')"},
                "uid": {"claim": "id"},
                "extra": [{"key": "example.com/team", "valueExpression": "claims.team"}],
            }
        },
        {"roles": "a,b", "id": "42", "team": "x"},
        User("jane", ("a", "b"), "42", (("example.com/team", ("x",)),)),
    ),
    ({"claimMappings": {"username": {"expression": "claims.none"}}}, {}, "error evaluating username claim expression"),
    (
        {"claimMappings": {"username": {"expression": "''"}}},
        {},
        "oidc: empty username via CEL expression is not allowed",
    ),
    (
        {"claimMappings": {"username": {"expression": "claims.n"}}},
        {"n": 1},
        "username claim expression must return a string",
    ),
    (
        {"claimMappings": {"username": {"expression": "claims.sub"}, "groups": {"expression": "claims.n"}}},
        {"n": 1},
        "expression must return a string or a list of strings",
    ),
    ({"claimValidationRules": [{"expression": "claims.hd == 'x'", "message": "only x"}]}, {"hd": "x"}, User("jane")),
    (
        {"claimValidationRules": [{"expression": "claims.hd == 'x'", "message": "only x"}]},
        {"hd": "y"},
        "validation expression 'claims.hd == 'x'' failed: only x",
    ),
    ({"claimValidationRules": [{"claim": "hd", "requiredValue": "x"}]}, {"hd": "y"}, "value does not match"),
    ({"claimValidationRules": [{"expression": "claims.exp - claims.iat <= 86400"}]}, {}, User("jane")),
    (
        {"userValidationRules": [{"expression": "!user.username.startsWith('j')", "message": "no j"}]},
        {},
        "failed: no j",
    ),
    ({"userValidationRules": [{"expression": "user.groups.all(g, g != 'x')"}]}, {}, User("jane")),
]


@pytest.mark.parametrize(("set_to", "claims", "outcome"), EXPRESSIONS)
def test_expressions_make_and_judge_the_user(set_to: Object, claims: Object, outcome: User | str) -> None:
    with issuing() as server:
        settings = read_settings(document(row(server, **set_to)).encode())

        async def work(tokens: OidcTokens) -> None:
            if isinstance(outcome, User):
                assert await tokens.user_of(server.token(**claims)) == outcome
            else:
                with pytest.raises(Rejected) as refused:
                    await tokens.user_of(server.token(**claims))
                assert outcome in str(refused.value)

        with_tokens(list(settings.issuers), work)


def test_an_issuer_may_be_described_elsewhere_and_have_several_audiences() -> None:
    with issuing() as server:
        server.named = "https://issuer.example.com"
        described = row(server)
        described["issuer"] |= {
            "url": server.named,
            "discoveryURL": f"{server.url}/elsewhere",
            "audiences": ["a", "b"],
            "audienceMatchPolicy": "MatchAny",
        }

        async def work(tokens: OidcTokens) -> None:
            assert await tokens.user_of(server.token(aud=["b", "c"])) == User("jane")
            assert server.asked == ["/elsewhere", "/keys"]

        with_tokens(list(read_settings(document(described).encode()).issuers), work)


def test_several_issuers_are_followed_in_their_file(tmp_path: Path) -> None:
    path = tmp_path / "authentication.yaml"
    with issuing() as one, issuing() as two:
        path.write_text(document(row(one)))

        async def work(world: World) -> None:
            followed = world.server.authentication.issuers
            assert followed is not None
            while await who(world, one.token()) == 401:
                await asyncio.sleep(0.01)
            assert await who(world, two.token()) == 401
            mapped = row(two, claimMappings={"username": {"claim": "sub", "prefix": "two:"}})
            path.write_text(document(row(one), mapped))
            await followed.look()  # type: ignore[union-attr]
            assert await who(world, two.token(jti=None, sub="joe")) == 401, "as long as the file may be half written"
            await followed.look()  # type: ignore[union-attr]
            found = await who(world, two.token(jti=None, sub="joe"))
            assert isinstance(found, dict)
            assert found["username"] == "two:joe"
            gone = row(two)
            gone["issuer"]["url"] = "https://127.0.0.1:1"
            for wrong in ("{", document({}), document(gone)):
                path.write_text(wrong)
                for _ in range(2):
                    await followed.look()  # type: ignore[union-attr]
                assert isinstance(await who(world, one.token(sub=f"x{len(wrong)}")), dict)
            text = (await world.raw("GET", "/metrics")).body
            assert isinstance(text, bytes)
            shown = [
                line
                for line in text.decode().splitlines()
                if "authentication_config_controller_automatic_reloads_total{" in line
            ]
            assert sorted(line.rpartition(" ")[2] for line in shown) == ["1.0", "3.0"]

        run_real(work, Config(seed=1, authentication_config=path))


@pytest.mark.parametrize(
    ("anonymous", "statuses"),
    [
        ({"enabled": True, "conditions": [{"path": "/livez"}]}, {"/livez": 200, "/readyz": 401, "/api/v1/pods": 401}),
        ({"enabled": True}, {"/livez": 200, "/readyz": 200, "/api/v1/pods": 403}),
        ({"enabled": False}, {"/livez": 401, "/readyz": 401, "/api/v1/pods": 401}),
    ],
)
def test_strangers_reach_only_the_paths_that_are_named(
    tmp_path: Path, anonymous: Object, statuses: dict[str, int]
) -> None:
    path = tmp_path / "authentication.yaml"
    path.write_text(document(anonymous=anonymous))

    async def work(world: World) -> None:
        for asked, status in statuses.items():
            assert (await world.raw("GET", asked, user=None)).status == status, asked

    run(work, Config(seed=1, authentication_config=path))


PROBLEMS: list[tuple[Object, str]] = [
    ({"issuer": {}}, "jwt[0].issuer.url: Required value"),
    ({"issuer": {"url": "http://x", "audiences": ["a"]}}, "URL scheme must be https"),
    ({"issuer": {"url": "https://u:p@x?q#f", "audiences": ["a"]}}, "URL must not contain a fragment"),
    ({"issuer": {"url": "https://ours", "audiences": ["a"]}}, "URL must not overlap with disallowed issuers"),
    ({"issuer": {"url": "https://x"}}, "at least one jwt[0].issuer.audiences is required"),
    ({"issuer": {"url": "https://x", "audiences": ["a", "b"]}}, "audienceMatchPolicy must be MatchAny"),
    ({"issuer": {"url": "https://x", "audiences": ["a"], "discoveryURL": "https://x/"}}, "must be different from URL"),
    ({"issuer": {"url": "https://x", "audiences": ["a"], "certificateAuthority": "x"}}, 'Invalid value: "<omitted>"'),
    ({"issuer": {"url": "https://x", "audiences": ["a"], "egressSelectorType": "cluster"}}, "egress selectors are not"),
    ({"claimMappings": {}}, "jwt[0].claimMappings.username: Required value: claim or expression is required"),
    ({"claimMappings": {"username": {"claim": "a"}}}, "prefix is required when claim is set"),
    ({"claimMappings": {"username": {"claim": "a", "expression": "b"}}}, "claim and expression can't both be set"),
    ({"claimMappings": {"username": {"expression": "claims.email"}}}, "claims.email_verified must be used in"),
    ({"claimMappings": {"username": {"expression": "1 +"}}}, "username.expression: Invalid value"),
    (
        {
            "claimMappings": {
                "username": {"expression": "'a'"},
                "extra": [{"key": "k8s.io/x", "valueExpression": "'a'"}],
            }
        },
        "are reserved for Kubernetes use",
    ),
    ({"claimValidationRules": [{"expression": "'text'"}]}, "must evaluate to bool but got string"),
    ({"claimValidationRules": [{}]}, "claimValidationRules[0]: Required value: claim or expression is required"),
    ({"userValidationRules": [{"expression": "user.none"}]}, "undefined field 'none'"),
    ({"more": 1}, 'unknown field "jwt[0].more"'),
]


@pytest.mark.parametrize(("change", "message"), PROBLEMS)
def test_a_file_that_is_wrong_is_refused_by_the_field(change: Object, message: str) -> None:
    good = {
        "issuer": {"url": "https://x", "audiences": ["a"]},
        "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
    }
    assert read_settings(document(good).encode()).issuers[0].url == "https://x"
    with pytest.raises(ConfigFileError) as refused:
        read_settings(document({**good, **change}).encode(), ("https://ours",))
    assert message in str(refused.value)


def test_a_webhook_says_whose_a_token_is(tmp_path: Path) -> None:
    def answer(review: Object) -> Object | int:
        match review["spec"]["token"]:
            case "good":
                return {
                    "authenticated": True,
                    "user": {"username": "jane", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}},
                }
            case "other":
                return {"authenticated": True, "user": {"username": "jane"}, "audiences": ["elsewhere"]}
            case "broken":
                return 400
        return {"authenticated": False, "error": "never seen"}

    async def work(world: World) -> None:
        for _ in range(2):
            assert await who(world, "good") == {
                "username": "jane",
                "uid": "1",
                "groups": ["g", "system:authenticated"],
                "extra": {"k": ["v"]},
            }
        for token in ("other", "broken", "bad"):
            assert await who(world, token) == 401
        spec = {"token": "good", "audiences": ["https://kubernetes.default.svc.cluster.local"]}
        review = await world.json("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": spec})
        assert review["status"]["user"]["username"] == "jane"

    with reviewing(answer) as reviewer:
        run_real(work, Config(seed=1, token_webhook=TokenWebhook(reviewer.kubeconfig(tmp_path))))
        assert [review["spec"]["token"] for review in reviewer.asked] == ["good", "other", "broken", "bad"]
        assert reviewer.asked[0]["apiVersion"] == "authentication.k8s.io/v1"


def test_one_review_answers_all_who_come_with_a_token_meanwhile(tmp_path: Path) -> None:
    """The one who came first goes away; the webhook is slow."""
    let = threading.Event()

    def slow(review: Object) -> Object:
        assert let.wait(60)
        return {"authenticated": True, "user": {"username": "jane"}}

    async def work(world: World) -> None:
        first = asyncio.ensure_future(who(world, "good"))
        while not reviewer.asked:
            await asyncio.sleep(0.01)
        others = [asyncio.ensure_future(who(world, "good")) for _ in range(100)]
        await asyncio.sleep(0.05)
        first.cancel()
        let.set()
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*others)
        assert all(isinstance(answer, dict) and answer["username"] == "jane" for answer in answers)
        assert len(reviewer.asked) == 1

    with reviewing(slow) as reviewer:
        run_real(work, Config(seed=1, token_webhook=TokenWebhook(reviewer.kubeconfig(tmp_path))))


def test_an_issuer_whose_url_makes_no_sense_keeps_no_other_from_being_asked() -> None:
    with issuing() as server:
        good = issuer_of(flags(server), ())
        bad = issuer_of(OidcFlags("https://127.0.0.1:port", "me", server.authority.pem), ())

        async def main() -> None:
            tokens = OidcTokens([bad, good], SystemClock())
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(tokens.run())
                while "/.well-known/openid-configuration" not in server.asked:
                    await asyncio.sleep(0.01)
                while await _user(tokens, server.token()) is None:
                    await asyncio.sleep(0.01)
                assert not asking.done()  # the other is tried again
                asking.cancel()

        asyncio.run(main())


async def _user(tokens: OidcTokens, token: str) -> User | None:
    try:
        return await tokens.user_of(token)
    except Rejected:
        return None
