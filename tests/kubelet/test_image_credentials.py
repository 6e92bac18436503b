"""Whose credentials fit an image: locations, keyrings, Secrets, and the node's own files."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.handclock import HandClock
from tiphys.kubelet.images.keyring import (
    Coordinates,
    Credential,
    Keyring,
    KeyringError,
    keyring_of_secrets,
    of_pod,
    read_config,
    read_entries,
)
from tiphys.kubelet.images.locations import LocationError, glob, matches, parse_location
from tiphys.kubelet.images.nodekeyring import LIFETIME, NodeKeyring

ADA = Credential("ada", "smash", "ada@example.com")
GRACE = Credential("grace", "squash", "grace@example.com")


@pytest.mark.parametrize(
    ("pattern", "image", "fits"),
    [
        ("*.kubernetes.io", "prefix.kubernetes.io", True),
        ("prefix.*.io", "prefix.kubernetes.io", True),
        ("prefix.kubernetes.*", "prefix.kubernetes.io", True),
        ("*-good.kubernetes.io", "prefix-good.kubernetes.io", True),
        ("*.kubernetes.io/blah", "prefix.kubernetes.io/blah", True),
        ("prefix.*.io/foo", "prefix.kubernetes.io/foo/bar", True),
        ("*.kubernetes.io:1111/blah", "prefix.kubernetes.io:1111/blah", True),
        ("prefix.*.io:1111/foo", "prefix.kubernetes.io:1111/foo/bar", True),
        ("*.kubernetes.io", "kubernetes.io", False),
        ("*.*.kubernetes.io", "prefix.kubernetes.io", False),
        ("*.*.kubernetes.io", "kubernetes.io", False),
        ("*kubernetes.io", "a.kubernetes.io", False),
        ("*kubernetes.io", "kubernetes.io", True),
        ("*.*.*.kubernetes.io", "a.b.c.kubernetes.io", True),
        ("kubernetes.io", "kubernetes.com", False),
        ("k*.io", "quay.io", False),
        ("*.kubernetes.io:1234/blah", "prefix.kubernetes.io:1111/blah", False),
        ("prefix.*.io/foo", "prefix.kubernetes.io:1111/foo/bar", False),
        ("[::1]:5000", "[::1]:5000/team/app", True),
        ("%invalid%", "prefix.kubernetes.io", False),
    ],
)
def test_a_pattern_stands_for_images(pattern: str, image: str, fits: bool) -> None:
    assert matches(pattern, image) is fits


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("abc", "abc", True),
        ("*c", "abc", True),
        ("a*", "ab/c", False),
        ("a*b*c*d*e*", "axbxcxdxe", True),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("[\\]a]", "]", True),
        ("", "", True),
        ("*", "", True),
    ],
)
def test_globs_are_gos(pattern: str, text: str, fits: bool) -> None:
    assert glob(pattern, text) is fits


@pytest.mark.parametrize("pattern", ["[", "[^", "[^bc", "a[", "[]a]", "[-]", "[x-]", "[a-", "\\"])
def test_wrong_globs_are_refused(pattern: str) -> None:
    with pytest.raises(LocationError, match="syntax error in pattern"):
        glob(pattern, "a")


def test_many_stars_take_no_time() -> None:
    assert not glob("*a" * 200 + "b", "a" * 4000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("%invalid%", 'parse "https://%invalid%": invalid URL escape "%in"'),
        ("foo.com:port", 'parse "https://foo.com:port": invalid port ":port" after host'),
        ("foo bar", 'parse "https://foo bar": invalid character " " in host name'),
        ("[::1", "parse \"https://[::1\": missing ']' in host"),
        ("a\nb", 'parse "https://a\\nb": net/url: invalid control character in URL'),
    ],
)
def test_what_is_no_location(text: str, message: str) -> None:
    with pytest.raises(LocationError) as caught:
        parse_location(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("location", "image"),
    [
        ("https://hello.kubernetes.io", "hello.kubernetes.io"),
        ("https://*.docker.io", "prefix.docker.io"),
        ("https://prefix.*.io/path", "prefix.docker.io/path/subpath"),
        ("https://*.docker.io:8888", "prefix.docker.io:8888"),
        ("https://*.docker.io/path:1111", "prefix.docker.io/path:1111"),
        ("https://*.docker.io/v1/", "prefix.docker.io/path:1111"),
        ("http://*.docker.io/v2/", "prefix.docker.io/path:1111"),
        ("prefix.docker.io:1111", "prefix.docker.io:1111/path"),
    ],
)
def test_a_keyring_finds_by_pattern(location: str, image: str) -> None:
    auth = base64.b64encode(b"foo:bar").decode()
    ring = Keyring()
    ring.add(read_entries({location: {"email": "foo@bar.baz", "auth": auth}}))
    assert ring.lookup(f"{image}/foo/bar") == [Credential("foo", "bar", "foo@bar.baz")]


def test_the_longest_location_is_first_and_digests_are_upstreams() -> None:
    ring = Keyring()
    ring.add({"bar.example.com": ADA, "bar.example.com/pong": GRACE, "broken %zz": ADA})
    for image in ("bar.example.com/pong", "bar.example.com/pongz", "bar.example.com/pong/pang"):
        assert ring.lookup(image) == [GRACE, ADA]
    for image in ("bar.example.com", "bar.example.com/ping"):
        assert ring.lookup(image) == [ADA]
    for image in ("example.com", "foo.example.com"):
        assert ring.lookup(image) == []
    assert ADA.digest == "353258b53f5e9a57b059eab3f05312fc35bbeb874f08ce101e7bf0bf46977423"
    assert GRACE.digest == "f949b3837a1eb733a951b6aeda0b3327c09ec50c917de9ca35818e8fbf567e29"
    rex = Credential("rex", "tiny arms", "rex@example.com")
    assert rex.digest == "899748fec74c8dd761845fca727f4249b05be275ff24026676fcd4351f656363"


def test_the_default_registry() -> None:
    ring = Keyring()
    ring.add({"https://index.docker.io/v1/": ADA})
    for image in ("docker.io/library/web", "index.docker.io/team/web", "web", "team/web", "localhost/web"):
        assert ring.lookup(image) == [ADA], image
    for image in ("quay.io/web", "host:5000/web", ""):
        assert ring.lookup(image) == [], image


@pytest.mark.parametrize("text", ["Zm9vOmJhcg==", "Zm9vOmJhcg", "Zm9vOm\nJhcg==\n"])
def test_users_and_passwords_in_one_field(text: str) -> None:
    assert read_entries({"a.b": {"username": "no", "auth": text}})["a.b"] == Credential("foo", "bar")


@pytest.mark.parametrize("auth", ["cGFudHM=", "Zm9vOmJhcg== ", "pants", 7])
def test_fields_that_are_no_user_and_password(auth: Any) -> None:
    with pytest.raises(KeyringError):
        read_entries({"a.b": {"auth": auth}})


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"auths": []}', b'{"auths": {"a.b": "x"}}', b"[" * 100_000])
def test_files_that_hold_no_credentials(text: bytes) -> None:
    with pytest.raises(KeyringError):
        read_config(text)


def secret(name: str, kind: str, key: str, content: Any) -> dict[str, Any]:
    text = content if isinstance(content, str) else json.dumps(content)
    meta = {"uid": f"uid-{name}", "namespace": "ns", "name": name}
    return {"type": f"kubernetes.io/{kind}", "metadata": meta, "data": {key: base64.b64encode(text.encode()).decode()}}


def test_secrets_of_both_types_count_and_others_do_not() -> None:
    entry = {"test.registry.io": {"username": "foo", "password": "bar"}}
    new = secret("new", "dockerconfigjson", ".dockerconfigjson", {"auths": entry})
    old = secret("old", "dockercfg", ".dockercfg", entry)
    others = [
        secret("opaque", "Opaque", ".dockerconfigjson", {"auths": entry}),
        secret("other-key", "dockerconfigjson", ".dockercfg", entry),
        {"type": "kubernetes.io/dockercfg", "metadata": {"name": "empty"}},
    ]
    found = keyring_of_secrets([*others, new, old]).lookup("test.registry.io/team/web")
    assert [credential.secret for credential in found] == [
        Coordinates("uid-new", "ns", "new"),
        Coordinates("uid-old", "ns", "old"),
    ]
    assert {credential.auth["password"] for credential in found} == {"bar"}
    assert [where.name for where, _ in of_pod(found).secrets] == ["new", "old"]
    assert keyring_of_secrets(others).lookup("test.registry.io/team/web") == []


@pytest.mark.parametrize("content", ["{", '{"auths": 7}', '{"auths": {"a.b": {"auth": "pants"}}}'])
def test_a_broken_secret_is_a_failure(content: str) -> None:
    with pytest.raises(KeyringError):
        keyring_of_secrets([secret("broken", "dockerconfigjson", ".dockerconfigjson", content)])


def test_the_nodes_own_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, root, clock = tmp_path / "home", tmp_path / "root", HandClock()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    (home / ".docker").mkdir(parents=True)
    root.mkdir()
    entry = {"own.example": {"username": "home", "password": "x"}}
    (home / ".dockercfg").write_text(json.dumps({"own.example": {"username": "old", "password": "x"}}))
    node = NodeKeyring(root, clock)
    assert node.ring().lookup("own.example/a")[0].username == "old"
    (home / ".docker" / "config.json").write_text(json.dumps({"auths": entry}))
    assert node.ring().lookup("own.example/a")[0].username == "old"  # it is read again after a while
    clock.advance(LIFETIME)
    [credential] = node.ring().lookup("own.example/a")
    assert (credential.username, credential.secret, credential.account) == ("home", None, None)
    (root / "config.json").write_text("{")  # what cannot be read is passed over
    clock.advance(LIFETIME)
    assert node.ring().lookup("own.example/a")[0].username == "home"
    (root / "config.json").write_text(json.dumps({"auths": {}}))
    clock.advance(LIFETIME)
    assert node.ring().lookup("own.example/a") == []
