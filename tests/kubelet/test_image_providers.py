"""Programs that give credentials for images: their configuration, one call, and what is remembered for whom."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.kubelet.handclock import HandClock
from tests.kubelet.world import pod
from tiphys.api.fielderrors import aggregate
from tiphys.client import errors
from tiphys.kubelet.images import providerexec
from tiphys.kubelet.images.figures import ImageFigures
from tiphys.kubelet.images.keyring import Coordinates, Credential
from tiphys.kubelet.images.providerconfig import (
    V1,
    Provider,
    ProviderConfigError,
    TokenAttributes,
    configured,
    problems,
    read_providers,
)
from tiphys.kubelet.images.providerexec import ProviderAnswer, ProviderFailure, ask, read_answer, request
from tiphys.kubelet.images.providers import CredentialProviders
from tiphys.kubelet.volumes.failures import MountFailure

CONFIG = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\n"


def provider(name: str = "test", *images: str, **more: Any) -> Provider:
    return Provider(name, images or ("test.registry.io",), more.pop("cache_seconds", 60.0), V1, **more)


# -- the configuration


def entry(name: str, image: str = "registry.io/foobar") -> str:
    return (
        f'  - name: {name}\n    matchImages: ["{image}"]\n    defaultCacheDuration: 10m\n'
        f"    apiVersion: {V1}\n    args: [--v=5]\n    env: [{{name: FOO, value: BAR}}]\n"
    )


def test_a_file_of_providers(tmp_path: Path) -> None:
    file = tmp_path / "one.txt"
    file.write_text(f"{CONFIG}providers:\n{entry('one')}{entry('two', '*.registry.io')}")
    providers, digest = read_providers(str(file))
    assert providers == [
        Provider("one", ("registry.io/foobar",), 600.0, V1, ("--v=5",), (("FOO", "BAR"),)),
        Provider("two", ("*.registry.io",), 600.0, V1, ("--v=5",), (("FOO", "BAR"),)),
    ]
    assert digest.startswith("sha256:")
    for version in ("v1alpha1", "v1beta1"):
        file.write_text(file.read_text().replace("kubelet.config.k8s.io/v1\n", f"kubelet.config.k8s.io/{version}\n"))
        assert read_providers(str(file))[0] == providers
        file.write_text(file.read_text().replace(f"kubelet.config.k8s.io/{version}\n", "kubelet.config.k8s.io/v1\n"))
    file.write_text(json.dumps({"kind": "CredentialProviderConfig", "apiVersion": "kubelet.config.k8s.io/v1"}))
    assert read_providers(str(file))[0] == []


def test_a_folder_of_providers_is_read_in_order(tmp_path: Path) -> None:
    with pytest.raises(ProviderConfigError, match="no configuration files found in directory"):
        read_providers(str(tmp_path))
    (tmp_path / "b.yaml").write_text(f"{CONFIG}providers:\n{entry('two')}")
    (tmp_path / "a.yml").write_text(f"{CONFIG}providers:\n{entry('one')}")
    (tmp_path / "0.txt").write_text("not read")
    (tmp_path / "c.json").mkdir()
    providers, digest = read_providers(str(tmp_path))
    assert [one.name for one in providers] == ["one", "two"]
    (tmp_path / "d.json").write_text(f"{CONFIG}providers:\n{entry('one')}")
    with pytest.raises(ProviderConfigError, match=r'duplicate provider name "one" found in configuration file\(s\)'):
        read_providers(str(tmp_path))
    (tmp_path / "d.json").write_text(f"{CONFIG}providers:\n{entry('three')}")
    assert read_providers(str(tmp_path))[1] != digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "apiVersion: kubelet.config.k8s.io/v1\nkind: WrongKind\n",
            'no kind "WrongKind" is registered for version "kubelet.config.k8s.io/v1"',
        ),
        (
            "apiVersion: foobar/v1alpha1\nkind: CredentialProviderConfig\n",
            'no kind "CredentialProviderConfig" is registered for version "foobar/v1alpha1"',
        ),
        (
            f"{CONFIG}providers:\n{entry('one')}    unknownField: x\n",
            'strict decoding error: unknown field "providers[0].unknownField"',
        ),
        (
            f"{CONFIG}providers:\n{entry('one')}    tokenAttributes: {{}}\n".replace("io/v1\n", "io/v1beta1\n", 1),
            'strict decoding error: unknown field "providers[0].tokenAttributes"',
        ),
        (
            f"{CONFIG}providers:\n{entry('one')}    tokenAttributes: {{cacheKind: x}}\n",
            'strict decoding error: unknown field "providers[0].tokenAttributes.cacheKind"',
        ),
        (f"{CONFIG}providers: [{{name: 7}}]\n", "providers[0].name is not of the type str"),
        (f"{CONFIG}providers: [{{args: [7]}}]\n", "providers[0].args is not of the type a list of texts"),
        (f"{CONFIG}providers: [7]\n", "providers[0] is not an object"),
        ("[]", "it holds no object"),
        (f"{CONFIG}providers: [{{defaultCacheDuration: 3}}]\n", "providers[0].defaultCacheDuration is not of the type"),
    ],
)
def test_what_is_no_configuration(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ProviderConfigError) as caught:
        read_providers(str(file))
    assert message in str(caught.value)


def tokens(**more: Any) -> TokenAttributes:
    given: dict[str, Any] = {"audience": "registry", "cache_type": "ServiceAccount", "required_account": True, **more}
    return TokenAttributes(**given)


NAME_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
    " character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
    " '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "providers: Required value: at least 1 item in plugins is required"),
        (
            [Provider("a", (), 1.0, V1)],
            "providers.matchImages: Required value: at least 1 item in matchImages is required",
        ),
        ([Provider("a", ("b.c",), None, V1)], "providers.defaultCacheDuration: Required value"),
        (
            [provider("foo/../bar")],
            "providers.name: Invalid value: \"foo/../bar\": provider name cannot contain '/'",
        ),
        ([provider(".")], "providers.name: Invalid value: \".\": provider name cannot be '.'"),
        ([provider("..")], "providers.name: Invalid value: \"..\": provider name cannot be '..'"),
        ([provider("foo bar")], 'providers.name: Invalid value: "foo bar": provider name cannot contain spaces'),
        ([provider("a"), provider("a")], 'providers.name: Duplicate value: "a"'),
        ([Provider("a", ("b.c",), 1.0, "")], "providers.apiVersion: Required value"),
        (
            [Provider("a", ("b.c",), 1.0, f"{V1}alpha0")],
            f'providers.apiVersion: Unsupported value: "{V1}alpha0": supported values: "{V1}", "{V1}alpha1",'
            f' "{V1}beta1"',
        ),
        (
            [Provider("a", ("b.c",), -60.0, V1)],
            'providers.defaultCacheDuration: Invalid value: "-1m0s": must be greater than or equal to 0',
        ),
        (
            [provider("a", "%invalid%")],
            'providers.matchImages: Invalid value: "%invalid%": match image is invalid: parse "https://%invalid%":'
            ' invalid URL escape "%in"',
        ),
        ([provider("a")], ""),
        (
            [provider(tokens=tokens(audience=""))],
            "providers.tokenAttributes.serviceAccountTokenAudience: Required value",
        ),
        (
            [provider(tokens=tokens(cache_type=""))],
            "providers.tokenAttributes.cacheType: Required value: cacheType is required to be set when tokenAttributes"
            " is specified. Supported values are: ServiceAccount, Token",
        ),
        (
            [provider(tokens=tokens(cache_type="other"))],
            'providers.tokenAttributes.cacheType: Unsupported value: "other": supported values: "ServiceAccount",'
            ' "Token"',
        ),
        (
            [provider(tokens=tokens(required_account=None))],
            "providers.tokenAttributes.requireServiceAccount: Required value",
        ),
        (
            [provider(tokens=tokens(required=("now-with-dashes/simple", "cantendwithadash-")))],
            "providers.tokenAttributes.requiredServiceAccountAnnotationKeys: Invalid value:"
            f' "cantendwithadash-": {NAME_RULE}',
        ),
        (
            [provider(tokens=tokens(optional=("cantendwithadash-",)))],
            "providers.tokenAttributes.optionalServiceAccountAnnotationKeys: Invalid value:"
            f' "cantendwithadash-": {NAME_RULE}',
        ),
        (
            [provider(tokens=tokens(required=("a/b", "a/b")))],
            'providers.tokenAttributes.requiredServiceAccountAnnotationKeys: Duplicate value: "a/b"',
        ),
        (
            [provider(tokens=tokens(optional=("a/b", "a/b")))],
            'providers.tokenAttributes.optionalServiceAccountAnnotationKeys: Duplicate value: "a/b"',
        ),
        (
            [provider(tokens=tokens(required=("a/b", "a/c"), optional=("a/c",)))],
            'providers.tokenAttributes: Invalid value: ["a/c"]: annotation keys cannot be both required and optional',
        ),
        (
            [provider(tokens=tokens(required=("a/b",), required_account=False))],
            "providers.tokenAttributes.requiredServiceAccountAnnotationKeys: Forbidden: requireServiceAccount cannot be"
            " false when requiredServiceAccountAnnotationKeys is set",
        ),
        (
            [Provider("a", ("b.c",), 1.0, f"{V1}beta1", tokens=tokens())],
            f"providers.tokenAttributes: Forbidden: tokenAttributes is only supported for {V1} API version",
        ),
        ([provider(tokens=tokens(required=("a/B",), optional=("a/c",)))], ""),
    ],
)
def test_what_does_not_hold_together(given: list[Provider], message: str) -> None:
    found = problems(given)
    assert (aggregate(found) if found else "") == message


def test_the_programs_must_be_there(tmp_path: Path) -> None:
    file, folder = tmp_path / "config.yaml", tmp_path / "bin"
    file.write_text(f"{CONFIG}providers:\n{entry('one')}")
    with pytest.raises(ProviderConfigError, match=f"plugin binary directory {folder} did not exist"):
        configured(str(file), str(folder))
    folder.mkdir()
    with pytest.raises(ProviderConfigError, match=f"plugin binary executable {folder}/one did not exist"):
        configured(str(file), str(folder))
    (folder / "one").write_text("")
    with pytest.raises(ProviderConfigError, match="permission denied"):
        configured(str(file), str(folder))
    (folder / "one").chmod(0o700)
    assert [one.name for one in configured(str(file), str(folder))[0]] == ["one"]
    with pytest.raises(ProviderConfigError, match="credential provider config path is empty"):
        configured("", str(folder))


# -- one call


def program(folder: Path, name: str, *lines: str) -> Provider:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return provider(name)


ANSWER = {
    "kind": "CredentialProviderResponse",
    "apiVersion": V1,
    "cacheKeyType": "Registry",
    "cacheDuration": "1m",
    "auth": {"test.registry.io": {"username": "user", "password": "pass"}},
}


async def call(one: Provider, folder: Path, limit: float = 60.0) -> ProviderAnswer:
    return await ask(one, str(folder), "test.registry.io/foo/bar", "", {}, limit)


def test_a_program_gets_a_request_and_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1111")
    one = program(tmp_path, "one", 'echo "$SECRET $OTHER $*" >"$OUT"; cat >>"$OUT"', f"echo '{json.dumps(ANSWER)}'")
    env = (("SECRET", "123"), ("OUT", str(tmp_path / "out")))
    one = provider("one", args=("--v=5", "a b"), env=env)
    answer = asyncio.run(ask(one, str(tmp_path), "test.registry.io/foo/bar", "token", {"b": "2", "a": "1"}))
    assert answer == ProviderAnswer("Registry", 60.0, {"test.registry.io": Credential("user", "pass")})
    head, body = (tmp_path / "out").read_text().splitlines()
    assert head == "123  --v=5 a b"
    assert body == (
        f'{{"kind":"CredentialProviderRequest","apiVersion":"{V1}","image":"test.registry.io/foo/bar",'
        '"serviceAccountToken":"token","serviceAccountAnnotations":{"a":"1","b":"2"}}'
    )
    assert (
        request(V1, "x", "", {}) == f'{{"kind":"CredentialProviderRequest","apiVersion":"{V1}","image":"x"}}\n'.encode()
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("echo no >&2; exit 3",), "image test.registry.io/foo/bar: exit status 3: no\n"),
        (("kill -9 $$",), "signal: killed"),
        (("exec cat /dev/zero",), f"it wrote more than {providerexec.MOST_OUTPUT} bytes"),
        (("cat /dev/zero | head -c 9000000 >&2; exit 1",), "exit status 1"),
        (("echo '{'",), "error reading GVK from response"),
        (("sleep 1000 & echo x",), "context deadline exceeded"),  # what it leaves behind holds its output open
        (("sleep 1000",), "context deadline exceeded"),
    ],
)
def test_a_program_that_fails(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    one = program(tmp_path, "one", *lines)
    limit = 0.5 if "deadline" in message else 60.0
    with pytest.raises(ProviderFailure) as caught:
        asyncio.run(call(one, tmp_path, limit))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 5000


def test_a_program_that_is_no_program(tmp_path: Path) -> None:
    with pytest.raises(ProviderFailure, match="No such file or directory"):
        asyncio.run(call(provider("none"), tmp_path))


def test_what_a_program_started_ends_with_it(tmp_path: Path) -> None:
    one = program(tmp_path, "one", f"sleep 1000 >/dev/null 2>&1 & echo $! >{tmp_path}/pid; exit 1")
    with pytest.raises(ProviderFailure):
        asyncio.run(call(one, tmp_path))
    number = int((tmp_path / "pid").read_text())
    while runs(number):
        time.sleep(0.02)


def runs(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "Other"},
        {"more": 1},
        {"auth": {"a.b": {"username": "u", "password": "p", "more": 1}}},
        {"auth": {"a.b": {"username": 1}}},
        {"auth": {"a.b": "secret"}},
        {"auth": ["secret"]},
        {"cacheDuration": "secret"},
        {"cacheDuration": 5},
    ],
)
def test_answers_that_are_none_show_no_secrets(changed: dict[str, Any]) -> None:
    with pytest.raises(ProviderFailure) as caught:
        read_answer(json.dumps({**ANSWER, **changed}).encode(), V1)
    assert str(caught.value) == "error decoding credential provider plugin response from stdout"


def test_answers() -> None:
    with pytest.raises(ProviderFailure, match=f"expected apiVersion:{V1}alpha1, actual apiVersion:{V1}"):
        read_answer(json.dumps(ANSWER).encode(), f"{V1}alpha1")
    with pytest.raises(ProviderFailure, match="error reading GVK"):
        read_answer(b"[]", V1)
    without = {key: value for key, value in ANSWER.items() if key not in ("cacheDuration", "auth")}
    assert read_answer(json.dumps(without).encode(), V1) == ProviderAnswer("Registry", None, {})


# -- what is remembered, and for whom


class Asked:
    """Plays the programs: each answers what ``answers`` has for it, or raises it."""

    def __init__(self, *providers: Provider, **answers: Any) -> None:
        self.clock = HandClock()
        self.calls: list[tuple[str, str, str, dict[str, str]]] = []
        self.answers: dict[str, Any] = answers
        self.annotations: dict[str, str] = {}
        self.token = "the token"
        self.failing: Exception | None = None
        self.figures = ImageFigures()
        self.all = CredentialProviders(
            providers,
            clock=self.clock,
            figures=self.figures,
            account=self._account,
            token=self._token,
            ask=self._ask,
        )

    async def _account(self, namespace: str, name: str) -> dict[str, Any]:
        return {"metadata": {"uid": f"uid-{namespace}-{name}", "annotations": self.annotations}}

    async def _token(self, of: dict[str, Any], audience: str, account: str) -> str:
        if self.failing is not None:
            raise self.failing
        return self.token

    async def _ask(self, one: Provider, image: str, token: str, annotations: Mapping[str, str]) -> ProviderAnswer:
        self.calls.append((one.name, image, token, dict(annotations)))
        answer = self.answers[one.name]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            made: Awaitable[ProviderAnswer] = answer()
            return await made
        return answer  # type: ignore[no-any-return]

    def look(self, image: str, account: str = "", name: str = "p") -> list[Credential]:
        return asyncio.run(self.find(image, account, name))

    async def find(self, image: str, account: str = "", name: str = "p") -> list[Credential]:
        spec = {"serviceAccountName": account} if account else {}
        return (await self.all.rings(image, pod(name, **spec))).lookup(image)


def answer(
    kind: str = "Image", seconds: float | None = 60.0, location: str = "test.registry.io", **more: str
) -> ProviderAnswer:
    return ProviderAnswer(kind, seconds, {location: Credential("user", more.get("password", "pass"))})


@pytest.mark.parametrize(
    ("kind", "shared", "apart"),
    [
        ("Image", "test.registry.io/foo", "test.registry.io/other"),
        ("Registry", "test.registry.io/other", "b.registry.io/foo"),
        ("Global", "b.registry.io/foo", ""),
    ],
)
def test_an_answer_is_remembered_by_its_kind(kind: str, shared: str, apart: str) -> None:
    asked = Asked(provider("one", "*.registry.io"), one=answer(kind, 60.0, "*.registry.io"))
    for image in ("test.registry.io/foo", "test.registry.io/foo", shared):
        assert asked.look(image) == [Credential("user", "pass")]
    assert len(asked.calls) == 1
    if apart:
        asked.look(apart)
        assert len(asked.calls) == 2
    asked.clock.advance(61)
    asked.look("test.registry.io/foo")
    assert len(asked.calls) == (3 if apart else 2)


def test_how_long_an_answer_is_remembered() -> None:
    asked = Asked(provider("one"), one=answer(seconds=0))
    asked.look("test.registry.io/foo")
    asked.look("test.registry.io/foo")
    assert len(asked.calls) == 2  # zero: not at all
    asked.answers["one"] = answer(seconds=None)  # None: as configured, 60 s
    for _ in range(2):
        asked.look("test.registry.io/foo")
    assert len(asked.calls) == 3
    asked = Asked(provider("one", cache_seconds=0.0), one=answer(seconds=None))
    for _ in range(2):
        asked.look("test.registry.io/foo")
    assert len(asked.calls) == 2


def test_only_images_that_fit_are_asked_for() -> None:
    asked = Asked(provider("one", "test.registry.io/team", "*.other.io"), one=answer(location="*.other.io"))
    assert asked.look("test.registry.io/foo") == []
    assert asked.look("test.registry.io:5000/team/foo") == []
    assert asked.calls == []
    assert asked.look("a.other.io/foo") == [Credential("user", "pass")]


def test_several_are_asked_and_one_that_fails_costs_nothing() -> None:
    broken, odd = ProviderFailure("exit status 1"), answer("Odd")
    everything = {"one": broken, "two": odd, "three": answer(password="right"), "four": broken}
    asked = Asked(*(provider(name) for name in everything), **everything)
    assert asked.look("test.registry.io/foo") == [Credential("user", "right")]
    assert [name for name, *_ in asked.calls] == list(everything)


def test_one_that_hangs_does_not_hold_the_next_call() -> None:
    async def scene() -> None:
        never = asyncio.Event()

        async def hang() -> ProviderAnswer:
            await never.wait()
            return answer()

        asked = Asked(provider("one", "hung.registry.io"), provider("two"), one=hang, two=answer())
        waiting = asyncio.ensure_future(asked.find("hung.registry.io/foo"))
        assert await asked.find("test.registry.io/foo") == [Credential("user", "pass")]
        waiting.cancel()
        asked.all.close()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(scene())


def test_callers_at_one_time_share_a_call_and_their_ends_are_their_own() -> None:
    async def scene() -> None:
        go = asyncio.Event()

        async def wait() -> ProviderAnswer:
            await go.wait()
            return answer()

        asked = Asked(provider("one"), one=wait)
        callers = [asyncio.ensure_future(asked.find("test.registry.io/foo", name=f"p{n}")) for n in range(10)]
        for _ in range(5):
            await asyncio.sleep(0)
        callers[0].cancel()  # the first one's end is nobody else's
        await asyncio.sleep(0)
        go.set()
        found = await asyncio.gather(*callers, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert found[1:] == [[Credential("user", "pass")]] * 9
        assert len(asked.calls) == 1

    asyncio.run(scene())


def accounted(**more: Any) -> Provider:
    return provider("one", tokens=tokens(**more))


def test_a_service_account_is_whose_the_credentials_are() -> None:
    asked = Asked(accounted(required=("a/must",), optional=("a/may", "a/other")), one=answer())
    asked.annotations = {"a/must": "1", "a/may": "2", "a/more": "3"}
    [credential] = asked.look("test.registry.io/foo", "builder")
    assert credential.account == Coordinates("uid-default-builder", "default", "builder")
    wanted = {"a/must": "1", "a/may": "2"}
    assert asked.calls == [("one", "test.registry.io/foo", "the token", wanted)]
    asked.look("test.registry.io/foo", "builder")
    asked.token = "another"  # of another pod: the account's answer counts for it, too
    asked.look("test.registry.io/foo", "builder")
    assert len(asked.calls) == 1
    asked.look("test.registry.io/foo", "other")
    asked.annotations = {"a/must": "other"}
    asked.look("test.registry.io/foo", "builder")
    assert len(asked.calls) == 3


def test_a_token_may_be_what_an_answer_is_remembered_by() -> None:
    asked = Asked(accounted(cache_type="Token"), one=answer(password="the token"))
    assert len(asked.look("test.registry.io/foo", "builder")) == 1
    asked.look("test.registry.io/foo", "builder")
    assert len(asked.calls) == 1
    asked.token = "another"
    asked.look("test.registry.io/foo", "builder")
    assert len(asked.calls) == 2


def test_a_token_as_password_is_refused_if_others_would_get_it() -> None:
    asked = Asked(accounted(), one=answer(password="the token"))
    assert asked.look("test.registry.io/foo", "builder") == []


def test_pods_without_a_service_account() -> None:
    asked = Asked(accounted(), one=answer())
    assert asked.look("test.registry.io/foo") == []
    assert asked.calls == []
    asked = Asked(accounted(required_account=False), one=answer())
    [credential] = asked.look("test.registry.io/foo")
    assert (credential.account, asked.calls[0][2]) == (None, "")


def test_accounts_without_what_is_required_and_tokens_that_are_refused() -> None:
    asked = Asked(accounted(required=("a/must",)), one=answer())
    assert asked.look("test.registry.io/foo", "builder") == []
    assert asked.calls == []
    asked.annotations = {"a/must": "1"}
    for failure in (
        MountFailure("no token"),
        errors.Forbidden(403, {"message": "no"}),
        ConnectionError("gone"),
        TimeoutError(),
    ):
        asked.failing = failure
        assert asked.look("test.registry.io/foo", "builder") == []
    assert asked.calls == []


def test_what_is_measured(tmp_path: Path) -> None:
    good = program(tmp_path, "good", f"echo '{json.dumps(ANSWER)}'")
    bad = program(tmp_path, "bad", "exit 1")
    figures = ImageFigures()
    figures.configured("sha256:abc")

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    every: Callable[..., Any] = nothing
    providers = CredentialProviders(
        [good, bad], folder=str(tmp_path), clock=HandClock(), figures=figures, account=every, token=every
    )
    found = asyncio.run(providers.rings("test.registry.io/foo", pod("p"))).lookup("test.registry.io/foo")
    assert found == [Credential("user", "pass")]
    registry = CollectorRegistry()
    registry.register(figures)
    text = generate_latest(registry).decode()
    assert 'kubelet_credential_provider_plugin_errors_total{plugin_name="bad"} 1.0' in text
    assert 'plugin_errors_total{plugin_name="good"}' not in text
    for name in ("good", "bad"):
        assert f'kubelet_credential_provider_plugin_duration_count{{plugin_name="{name}"}} 1.0' in text
    assert 'kubelet_credential_provider_config_info{hash="sha256:abc"} 1.0' in text
