"""How values are sealed: round trips, what is bound to what, rotation, and values that upstream has sealed."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from tiphys.apiserver.encryption.config import EncryptionConfigError, read_rules
from tiphys.apiserver.encryption.providers import (
    AesCbc,
    AesGcm,
    Chain,
    Cipher,
    IdentityProvider,
    Keyed,
    SealError,
    Secretbox,
)

KEY = b"/registry/secrets/default/s"
OTHER = b"/registry/secrets/default/other"
SECRET, SECOND = bytes(range(32)), bytes(range(32, 64))
KINDS: list[tuple[str, type[Cipher]]] = [("aesgcm", AesGcm), ("aescbc", AesCbc), ("secretbox", Secretbox)]


def seal(chain: Chain, value: bytes, key: bytes = KEY) -> bytes:
    return asyncio.run(chain.seal(value, key))


def opened(chain: Chain, stored: bytes, key: bytes = KEY) -> tuple[bytes, bool]:
    result = asyncio.run(chain.open(stored, key))
    return result.value, result.stale


def keyed(kind: str, make: Any, *names: str) -> Keyed:
    secrets = {"a": SECRET, "b": SECOND}
    return Keyed(kind, [(name, make(secrets[name])) for name in names])


@pytest.mark.parametrize(("kind", "make"), KINDS)
@pytest.mark.parametrize("value", [b"", b"x", b"x" * 15, b"x" * 16, b"x" * 1000])
def test_what_is_sealed_opens(kind: str, make: Any, value: bytes) -> None:
    chain = Chain([keyed(kind, make, "a"), IdentityProvider()])
    stored = seal(chain, value)
    assert stored.startswith(f"k8s:enc:{kind}:v1:a:".encode())
    assert not value[:4] or value[:8] not in stored[20:] or len(value) < 8
    assert stored != seal(chain, value)
    assert opened(chain, stored) == (value, False)


@pytest.mark.parametrize(("kind", "make"), [row for row in KINDS if row[0] != "aescbc"])
def test_a_changed_byte_does_not_open(kind: str, make: Any) -> None:
    chain = Chain([keyed(kind, make, "a")])
    stored = bytearray(seal(chain, b"value"))
    for at in range(len(f"k8s:enc:{kind}:v1:a:"), len(stored)):
        stored[at] ^= 1
        with pytest.raises(SealError):
            opened(chain, bytes(stored))
        stored[at] ^= 1


def test_a_value_of_aesgcm_is_bound_to_its_key() -> None:
    chain = Chain([keyed("aesgcm", AesGcm, "a")])
    with pytest.raises(SealError, match="message authentication failed"):
        opened(chain, seal(chain, b"value"), OTHER)


@pytest.mark.parametrize(("kind", "make"), KINDS)
def test_rotation_reads_the_old_key_and_calls_it_stale(kind: str, make: Any) -> None:
    old = seal(Chain([keyed(kind, make, "a")]), b"value")
    assert opened(Chain([keyed(kind, make, "b", "a")]), old) == (b"value", True)
    assert opened(Chain([IdentityProvider(), keyed(kind, make, "a")]), old) == (b"value", True)
    with pytest.raises(SealError):
        opened(Chain([keyed(kind, make, "b")]), old)
    with pytest.raises(SealError, match="identity transformer tried to read encrypted data"):
        opened(Chain([IdentityProvider()]), old)


def test_plain_values_are_read_and_stale_if_identity_is_not_first() -> None:
    assert opened(Chain([IdentityProvider()]), b"{}") == (b"{}", False)
    assert opened(Chain([keyed("aesgcm", AesGcm, "a"), IdentityProvider()]), b"{}") == (b"{}", True)
    with pytest.raises(SealError, match="no matching prefix found"):
        opened(Chain([keyed("aesgcm", AesGcm, "a")]), b"{}")


# -- the configuration


def document(*rows: Any) -> dict[str, Any]:
    return {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": list(rows)}


def row(resources: list[str], *providers: Any) -> dict[str, Any]:
    return {"resources": resources, "providers": list(providers)}


def gcm(secret: bytes = SECRET, name: str = "a") -> dict[str, Any]:
    return {"aesgcm": {"keys": [{"name": name, "secret": base64.b64encode(secret).decode()}]}}


def kms(**settings: Any) -> dict[str, Any]:
    return {"kms": {"apiVersion": "v2", "name": "k", "endpoint": "unix:///run/kms.sock", **settings}}


@pytest.mark.parametrize(
    ("resources", "covered", "not_covered"),
    [
        (["secrets"], ("", "secrets"), ("", "configmaps")),
        (["*."], ("", "configmaps"), ("apps", "deployments")),
        (["*.apps"], ("apps", "deployments"), ("", "secrets")),
        (["deployments.apps"], ("apps", "deployments"), ("apps", "daemonsets")),
        (["crontabs.example.com"], ("example.com", "crontabs"), ("other.com", "crontabs")),
    ],
)
def test_resources_and_wildcards(resources: list[str], covered: Any, not_covered: Any) -> None:
    rules = read_rules(document(row(resources, gcm())))
    assert rules.chain(*covered) is not None
    assert rules.chain(*not_covered) is None
    everything = read_rules(document(row(resources, gcm()), row(["*.*"], {"identity": {}})))
    assert isinstance(everything.chain("any.group", "things").providers[0], IdentityProvider)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "not an EncryptionConfiguration"),
        (document(), "resources: Required value: at least one resources is required"),
        (document(row([], gcm())), "resources[0].resources: Required value"),
        (document(row(["secrets"])), "resources[0].providers: Required value"),
        (document(row(["secrets"], {})), "resources[0].providers[0]: Invalid value"),
        (document(row(["secrets"], {"identity": {}, **gcm()})), "has one only"),
        (document(row(["Secrets"], gcm())), "should not contain capital letters"),
        (document(row(["*"], gcm())), "use '*.' to encrypt all the resources"),
        (document(row(["secrets.*"], gcm())), "across all groups is not supported"),
        (document(row(["events.events.k8s.io"], gcm())), "Use 'events' instead"),
        (document(row(["secrets", "secrets"], gcm())), "cannot be specified more than once"),
        (document(row(["secrets", "*."], gcm())), "overlapping resources"),
        (document(row(["secrets", "*.*"], gcm())), "overlapping resources"),
        (document(row(["secrets"], gcm(b"short"))), "got 5, expected one of [16 24 32]"),
        (document(row(["secrets"], {"secretbox": {"keys": []}})), "at least one keys is required"),
        (
            document(row(["secrets"], {"aescbc": {"keys": [{"name": "", "secret": "!"}]}})),
            "must be base64 encoded",
        ),
        (document(row(["secrets"], kms(apiVersion="v1"))), "only v2 is supported"),
        (document(row(["secrets"], kms(endpoint="tcp://1.2.3.4:5"))), "unsupported scheme"),
        (document(row(["secrets"], kms(cachesize=3))), "cachesize is not supported in v2"),
        (document(row(["secrets"], kms(timeout="-1s"))), "should be a positive value"),
        (document(row(["secrets"], kms(), kms())), "duplicate KMS provider name"),
        (document(row(["secrets"], kms(timeOut="3s"))), 'unknown field "resources[0].providers[0].kms.timeOut"'),
        (document({**row(["secrets"], gcm()), "resource": ["x"]}), 'unknown field "resources[0].resource"'),
        (document(row(["secrets"], {"aesgcm": gcm()["aesgcm"], "identify": {}})), 'providers[0].identify"'),
        (document(row([7], gcm())), "resources[0].resources[0]: must be a string"),  # type: ignore[list-item]
    ],
)
def test_what_is_wrong_is_named_and_no_key_is_shown(document: Any, message: str) -> None:
    with pytest.raises(EncryptionConfigError) as wrong:
        read_rules(document)
    assert message in str(wrong.value)
    assert base64.b64encode(b"short").decode() not in str(wrong.value)
