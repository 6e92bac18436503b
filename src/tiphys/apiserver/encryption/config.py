"""The file ``--encryption-provider-config``: which resources are sealed by which providers.

Source: https://kubernetes.io/docs/reference/config-api/apiserver-config.v1/#apiserver-config-k8s-io-v1-EncryptionConfiguration
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.api.fielderrors import FieldError, invalid, required
from tiphys.api.object import Object
from tiphys.apiserver.configfile import ConfigFileError, checked
from tiphys.apiserver.encryption.kms import KmsV2, Service
from tiphys.apiserver.encryption.providers import (
    AesCbc,
    AesGcm,
    Chain,
    Cipher,
    IdentityProvider,
    Keyed,
    Provider,
    Secretbox,
)
from tiphys.runtime import durations

API_VERSION = "apiserver.config.k8s.io/v1"
_AES_SIZES, _BOX_SIZES = (16, 24, 32), (32,)
_KEYED: dict[str, tuple[Callable[[bytes], Cipher], tuple[int, ...]]] = {
    "aesgcm": (AesGcm, _AES_SIZES),
    "aescbc": (AesCbc, _AES_SIZES),
    "secretbox": (Secretbox, _BOX_SIZES),
}
_KEYS = {"keys": [{"name": str, "secret": str}]}
_PROVIDER = {
    **dict.fromkeys(_KEYED, _KEYS),
    "identity": dict[str, object](),
    "kms": {"apiVersion": str, "name": str, "cachesize": int, "endpoint": str, "timeout": str},
}
_SHAPE = {"apiVersion": str, "kind": str, "resources": [{"resources": [str], "providers": [_PROVIDER]}]}
"""Of the document. A field that nobody knows may be one that was meant to seal."""
_KINDS = (*_KEYED, "kms", "identity")
_EVENTS = (
    "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file"
)
_NO_RESOURCES = frozenset(("apiserveripinfo", "serviceipallocations", "servicenodeportallocations"))


class EncryptionConfigError(ValueError):
    """The configuration cannot be used; the message names the field. It never shows a key."""


@dataclass(frozen=True, slots=True)
class EncryptionRule:
    """``resources`` are (group, plural) pairs; ``*`` stands for every one."""

    resources: tuple[tuple[str, str], ...]
    chain: Chain

    def covers(self, group: str, plural: str) -> bool:
        return any(own in ("*", group) and name in ("*", plural) for own, name in self.resources)


class EncryptionRules:
    """The first rule that covers a resource decides; what none covers is not sealed."""

    def __init__(self, rules: Sequence[EncryptionRule]) -> None:
        self._rules = tuple(rules)

    def chain(self, group: str, plural: str) -> Chain | None:
        return next((rule.chain for rule in self._rules if rule.covers(group, plural)), None)

    @property
    def services(self) -> list[KmsV2]:
        return [provider for rule in self._rules for provider in rule.chain.providers if isinstance(provider, KmsV2)]


def read_rules(document: Any) -> EncryptionRules:
    """Rules from parsed YAML. Raises ``EncryptionConfigError``."""
    kind = (document.get("apiVersion"), document.get("kind")) if isinstance(document, dict) else None
    if kind != (API_VERSION, "EncryptionConfiguration"):
        raise EncryptionConfigError(f"the document is not an EncryptionConfiguration of {API_VERSION}")
    try:
        document = checked(document, _SHAPE)
    except ConfigFileError as error:
        raise EncryptionConfigError(str(error)) from None
    problems = list(_problems(document.get("resources")))
    if problems:
        raise EncryptionConfigError("; ".join(str(problem) for problem in problems))
    return EncryptionRules(
        [
            EncryptionRule(
                tuple(map(_resource, row["resources"])), Chain([_provider(provider) for provider in row["providers"]])
            )
            for row in document["resources"]
        ]
    )


def _resource(text: str) -> tuple[str, str]:
    """``secrets`` is of the core group, ``deployments.apps`` of apps, ``*.*`` everything."""
    plural, _, group = text.partition(".")
    return group, plural


def _provider(row: Object) -> Provider:
    kind, settings = next(iter(row.items()))
    if kind == "identity":
        return IdentityProvider()
    if kind == "kms":
        timeout = durations.seconds(settings["timeout"]) if settings.get("timeout") else 3.0
        return KmsV2(settings["name"], Service(settings["endpoint"], timeout))
    make, _ = _KEYED[kind]
    return Keyed(kind, [(key["name"], make(base64.b64decode(key["secret"]))) for key in settings["keys"]])


def _problems(rows: Any) -> Iterable[FieldError]:
    if not rows:
        yield required("resources", "at least one resources is required")
        return
    names: set[str] = set()
    for number, row in enumerate(rows):
        path = f"resources[{number}]"
        resources, providers = row.get("resources") or [], row.get("providers") or []
        if not resources:
            yield required(f"{path}.resources", f"at least one {path}.resources is required")
        yield from _resource_problems(resources, f"{path}.resources")
        if not providers:
            yield required(f"{path}.providers", f"at least one {path}.providers is required")
        for index, provider in enumerate(providers):
            yield from _provider_problems(provider, f"{path}.providers[{index}]", names)


def _resource_problems(resources: list[str], path: str) -> Iterable[FieldError]:
    pairs = set(map(_resource, resources))
    if len(pairs) < len(resources):
        yield invalid(path, resources, "the same resource cannot be specified more than once")
    wild = ("*", "*") in pairs and len(resources) > 1
    if wild or any(pair != ("", "*") and pair[1] != "*" and (pair[0], "*") in pairs for pair in pairs):
        yield invalid(path, resources, "using overlapping resources such as 'secrets' and '*.' in the same resource"
                      " list is not allowed as they will be masked")  # fmt: skip
    for number, text in enumerate(resources):
        group, plural = _resource(text)
        if wrong := _resource_problem(text, group, plural):
            yield invalid(f"{path}[{number}]", text, wrong)


def _resource_problem(text: str, group: str, plural: str) -> str:
    if text != text.lower():
        return "resource name should not contain capital letters"
    if text == "*":
        return "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
    if text in _NO_RESOURCES:
        return "resources which do not have REST API/s cannot be encrypted"
    if group == "events.k8s.io":
        return _EVENTS
    if group == "extensions":
        return "'extensions' group has been removed and cannot be used for encryption"
    if group == "*" and plural != "*":
        return "encryption of the same resource across all groups is not supported"
    return ""


def _provider_problems(provider: Any, path: str, names: set[str]) -> Iterable[FieldError]:
    kinds = [kind for kind in _KINDS if isinstance(provider, dict) and provider.get(kind) is not None]
    if len(kinds) != 1 or len(provider) != 1:
        shown = sorted(provider) if isinstance(provider, dict) else type(provider).__name__
        yield invalid(path, shown, "a provider is one of aesgcm, aescbc, secretbox, kms and identity, and has one only")
    elif kinds[0] == "kms":
        yield from _service_problems(provider["kms"], f"{path}.kms", names)
    elif kinds[0] != "identity":
        _, sizes = _KEYED[kinds[0]]
        yield from _key_problems(provider[kinds[0]].get("keys") or [], f"{path}.{kinds[0]}.keys", sizes)


def _service_problems(settings: Object, path: str, names: set[str]) -> Iterable[FieldError]:
    """The errors of one KMS provider; its name is added to ``names``."""
    name = settings.get("name") or ""
    if not name:
        yield required(f"{path}.name", "name is a mandatory field for a kms")
    elif ":" in name:
        yield invalid(f"{path}.name", name, "invalid KMS provider name, must not contain :")
    elif name in names:
        yield invalid(f"{path}.name", name, f"duplicate KMS provider name {name}, names must be unique")
    names.add(name)
    if settings.get("apiVersion") != "v2":
        yield invalid(
            f"{path}.apiVersion", settings.get("apiVersion") or "v1", "only v2 is supported; KMS v1 is deprecated"
        )
    endpoint = settings.get("endpoint") or ""
    if not endpoint:
        yield required(f"{path}.endpoint", "endpoint is a mandatory field for a kms")
    elif not endpoint.startswith("unix://"):
        yield invalid(f"{path}.endpoint", endpoint, "unsupported scheme for KMS provider, use unix://")
    if settings.get("cachesize") is not None:
        yield invalid(f"{path}.cachesize", settings["cachesize"], "cachesize is not supported in v2")
    timeout = settings.get("timeout")
    try:
        if timeout is not None and durations.seconds(timeout) <= 0:
            yield invalid(f"{path}.timeout", timeout, "timeout should be a positive value")
    except ValueError as error:
        yield invalid(f"{path}.timeout", timeout, str(error))


def _key_problems(keys: list[Object], path: str, sizes: tuple[int, ...]) -> Iterable[FieldError]:
    if not keys:
        yield required(path, "at least one keys is required")
    for number, key in enumerate(keys):
        at = f"{path}[{number}]"
        if not key.get("name"):
            yield required(f"{at}.name", "name is a mandatory field for a key")
        if not key.get("secret"):
            yield required(f"{at}.secret", "secret is a mandatory field for a key")
            continue
        try:
            size = len(base64.b64decode(key["secret"], validate=True))
        except (binascii.Error, ValueError):
            yield invalid(f"{at}.secret", "REDACTED", "secrets must be base64 encoded")
            continue
        if size not in sizes:
            lengths = " ".join(map(str, sizes))
            wrong = f"secret is not of the expected length, got {size}, expected one of [{lengths}]"
            yield invalid(f"{at}.secret", "REDACTED", wrong)
