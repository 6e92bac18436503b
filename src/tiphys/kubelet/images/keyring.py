"""Credentials by the location that they are for, and those that fit an image, the longest location first. Pure.

Source: https://kubernetes.io/docs/concepts/containers/images/#using-a-private-registry
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tiphys.api.gotext import json_text
from tiphys.kubelet.images.locations import LocationError, matches, parse_location

DEFAULT_REGISTRY = "index.docker.io"


class KeyringError(ValueError):
    """A Secret, a file or an answer holds no credentials that can be read. The message shows none of them."""


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Where a credential is from: a Secret or a ServiceAccount."""

    uid: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Credential:
    """``secret`` or ``account`` say whose it is; without either every pod of the node may use it."""

    username: str = ""
    password: str = ""
    email: str = ""
    secret: Coordinates | None = None
    account: Coordinates | None = None

    @property
    def auth(self) -> dict[str, str]:
        """In the shape of the CRI's ``AuthConfig``."""
        return {key: text for key, text in (("username", self.username), ("password", self.password)) if text}

    @property
    def digest(self) -> str:
        """The same number as upstream's kubelet gives it, which reads the same records."""
        given = (("username", self.username), ("password", self.password), ("email", self.email))
        fields = ",".join(f'"{name}":{json_text(text)}' for name, text in given if text)
        return hashlib.sha256(f"{{{fields}}}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class PodCredentials:
    """What of the credentials that fit an image belongs to the pod: by digest, and by the account."""

    secrets: tuple[tuple[Coordinates, str], ...] = ()
    account: Coordinates | None = None


Entries = Mapping[str, Credential]
"""Credentials by location."""


class Keyring:
    def __init__(self) -> None:
        self._by_key: dict[str, list[Credential]] = {}

    def add(self, entries: Entries) -> None:
        """Entries whose location cannot be read are left out."""
        for location, credential in entries.items():
            try:
                self._by_key.setdefault(_key(location), []).append(credential)
            except LocationError:
                continue

    def lookup(self, image: str) -> list[Credential]:
        """The credentials for an image, by its name with the registry."""
        fitting: list[Credential] = []
        for key in sorted(self._by_key, reverse=True):
            if matches(key, image):
                fitting += self._by_key[key]
        if not fitting and _is_default(image):
            fitting += self._by_key.get(DEFAULT_REGISTRY, [])
        return fitting


def lookup(image: str, rings: Iterable[Keyring]) -> list[Credential]:
    """Those of several keyrings, in their order."""
    return [credential for ring in rings for credential in ring.lookup(image)]


def of_pod(credentials: Iterable[Credential]) -> PodCredentials:
    secrets = []
    account = None
    for credential in credentials:
        if credential.secret is not None:
            secrets.append((credential.secret, credential.digest))
        elif account is None:
            account = credential.account
    return PodCredentials(tuple(secrets), account)


def _key(location: str) -> str:
    without = location
    for scheme in ("https://", "http://"):
        if location.startswith(scheme):
            without = location.removeprefix(scheme)
            break
    parsed = parse_location(without)
    path = parsed.path[3:] if parsed.path.startswith(("/v1/", "/v2/")) else parsed.path
    return parsed.host + (path if path != "/" else "")


def _is_default(image: str) -> bool:
    first, slash, _ = image.partition("/")
    if not first:
        return False
    return not slash or first in ("docker.io", DEFAULT_REGISTRY) or not any(mark in first for mark in ".:")


def keyring_of_secrets(secrets: Iterable[Mapping[str, Any]]) -> Keyring:
    """The keyring of Secrets of both types that hold credentials; others are left out. Raises ``KeyringError``."""
    ring = Keyring()
    for secret in secrets:
        data, meta = secret.get("data") or {}, secret.get("metadata") or {}
        whose = Coordinates(meta.get("uid", ""), meta.get("namespace", ""), meta.get("name", ""))
        match secret.get("type"):
            case "kubernetes.io/dockerconfigjson" if text := data.get(".dockerconfigjson"):
                entries = read_config(_decoded(text))
            case "kubernetes.io/dockercfg" if text := data.get(".dockercfg"):
                entries = read_entries(load_json(_decoded(text)))
            case _:
                continue
        ring.add({location: replace(credential, secret=whose) for location, credential in entries.items()})
    return ring


def read_config(text: bytes) -> Entries:
    """The entries of a ``config.json`` of docker's. Raises ``KeyringError``."""
    document = load_json(text)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise KeyringError("error occurred while trying to unmarshal json")
    return read_entries(document.get("auths"))


def read_entries(given: Any) -> Entries:
    """Entries by location, as a ``.dockercfg`` has them. Raises ``KeyringError``."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise KeyringError("error occurred while trying to unmarshal json")
    return {str(location): _entry(entry or {}) for location, entry in given.items()}


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except (ValueError, binascii.Error):
        raise KeyringError("illegal base64 data") from None


def load_json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise KeyringError("error occurred while trying to unmarshal json") from None


def _entry(entry: Any) -> Credential:
    if not isinstance(entry, dict):
        raise KeyringError("error occurred while trying to unmarshal json")
    texts = {name: entry.get(name) or "" for name in ("username", "password", "email", "auth")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise KeyringError("error occurred while trying to unmarshal json")
    username, password = texts["username"], texts["password"]
    if texts["auth"]:
        username, password = _both(texts["auth"])
    return Credential(username, password, texts["email"])


def _both(text: str) -> tuple[str, str]:
    """User and password of a field ``auth``, whose padding may be missing."""
    padded = text if text.strip().endswith("=") else text + "=" * (-len(text) % 4)
    try:
        decoded = base64.b64decode(padded.replace("\r", "").replace("\n", ""), validate=True).decode(errors="replace")
    except (ValueError, binascii.Error):
        raise KeyringError("illegal base64 data") from None
    username, colon, password = decoded.partition(":")
    if not colon:
        raise KeyringError("unable to parse auth field, must be formatted as base64(username:password)")
    return username, password
