"""Files that say which images the kubelet is pulling, and with whose credentials it has pulled which.

They are upstream's, so that either kubelet goes on with the other's. Source:
https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/#kubelet-config-k8s-io-v1beta1-ImagePulledRecord
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tiphys.api.gotext import json_text
from tiphys.controlkit.objects import parse_time, timestamp
from tiphys.kubelet.images.keyring import Coordinates

log = logging.getLogger(__name__)

_VERSION = "kubelet.config.k8s.io/v1beta1"
_VERSIONS = (_VERSION, "kubelet.config.k8s.io/v1alpha1")
_PREFIX, _UNFINISHED = "sha256-", ".tmp"

Secrets = dict[Coordinates, str]
"""Digests of credentials by the Secret that they are from."""


class BrokenRecord(Exception):
    """A file is no record, or cannot be read."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may start from an image. ``everybody``: all pods of the node."""

    secrets: Secrets = field(default_factory=dict)
    accounts: frozenset[Coordinates] = frozenset()
    everybody: bool = False

    @property
    def nobody(self) -> bool:
        return not (self.secrets or self.accounts or self.everybody)

    def with_more(self, more: Access) -> Access:
        """Both together."""
        if self.everybody or more.everybody:
            return Access(everybody=True)
        return Access({**self.secrets, **more.secrets}, self.accounts | more.accounts)


@dataclass(frozen=True, slots=True)
class PulledRecord:
    """``by_name``: access by the image's name without tag and digest. ``updated`` in seconds since 1970."""

    reference: str
    updated: float
    by_name: dict[str, Access] = field(default_factory=dict)

    def merged(self, name: str, access: Access, now: float) -> PulledRecord:
        """With more access to the image of a name; the same object if that says nothing new."""
        known = self.by_name.get(name)
        both = access if known is None else known.with_more(access)
        if access.nobody or both == known:
            return self
        return replace(self, updated=now, by_name={**self.by_name, name: both})


class PullRecords:
    """The files below ``root``, the kubelet's folder."""

    def __init__(self, root: Path) -> None:
        self._pulling = root / "image_manager" / "pulling"
        self._pulled = root / "image_manager" / "pulled"

    # Pulls under way.

    def intend(self, image: str) -> None:
        """Raises ``OSError``."""
        _write(self._pulling, image, {"kind": "ImagePullIntent", "apiVersion": _VERSION, "image": image})

    def intended(self, image: str) -> bool:
        """Raises ``BrokenRecord``."""
        path = self._pulling / _name(image)
        return path.exists() and _read(path, "ImagePullIntent").get("image") == image

    def intentions(self) -> list[str]:
        return [str(given["image"]) for given in _all(self._pulling, "ImagePullIntent") if given.get("image")]

    def done(self, image: str) -> None:
        """Raises ``OSError``."""
        (self._pulling / _name(image)).unlink(missing_ok=True)

    # Images that were pulled.

    def get(self, reference: str) -> PulledRecord | None:
        """Raises ``BrokenRecord``."""
        path = self._pulled / _name(reference)
        if not path.exists():
            return None
        record = _record(_read(path, "ImagePulledRecord"))
        return record if record.reference == reference else None

    def records(self) -> Iterator[PulledRecord]:
        for given in _all(self._pulled, "ImagePulledRecord"):
            with contextlib.suppress(BrokenRecord):
                yield _record(given)

    def put(self, record: PulledRecord) -> None:
        """Raises ``OSError``."""
        _write(self._pulled, record.reference, _described(record))

    def remove(self, reference: str) -> None:
        """Raises ``OSError``."""
        (self._pulled / _name(reference)).unlink(missing_ok=True)

    def counts(self) -> tuple[int, int]:
        """How many files of each kind there are."""
        return len(_files(self._pulling)), len(_files(self._pulled))


def _name(text: str) -> str:
    return _PREFIX + hashlib.sha256(text.encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if not entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    return [folder / name for name in names if name.startswith(_PREFIX) and not name.endswith(_UNFINISHED)]


def _all(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Those that can be read."""
    for path in _files(folder):
        try:
            yield _read(path, kind)
        except BrokenRecord as error:
            log.error("record of images: %s", error)


def _read(path: Path, kind: str) -> dict[str, Any]:
    try:
        given = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BrokenRecord(f"{path}: {error}") from error
    if not isinstance(given, dict) or given.get("kind") != kind or given.get("apiVersion") not in _VERSIONS:
        raise BrokenRecord(f"{path} does not hold an {kind}")
    return given


def _write(folder: Path, name: str, given: dict[str, Any]) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / _name(name)
    unfinished = path.with_name(path.name + _UNFINISHED)
    try:
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(json_text(given) + "\n")
        unfinished.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def _record(given: dict[str, Any]) -> PulledRecord:
    try:
        updated = parse_time(given.get("lastUpdatedTime"))
        by_name = {str(name): _access(access) for name, access in (given.get("credentialMapping") or {}).items()}
        return PulledRecord(str(given["imageRef"]), updated or 0.0, by_name)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BrokenRecord(f"the record of an image cannot be read: {error!r}") from error


def _access(given: dict[str, Any]) -> Access:
    secrets = {_coordinates(one): str(one.get("credentialHash") or "") for one in given.get("kubernetesSecrets") or ()}
    accounts = frozenset(_coordinates(one) for one in given.get("kubernetesServiceAccounts") or ())
    return Access(secrets, accounts, bool(given.get("nodePodsAccessible")))


def _coordinates(given: dict[str, Any]) -> Coordinates:
    return Coordinates(str(given["uid"]), str(given["namespace"]), str(given["name"]))


def _described(record: PulledRecord) -> dict[str, Any]:
    mapping = {name: _shown(access) for name, access in sorted(record.by_name.items())}
    return {
        "kind": "ImagePulledRecord",
        "apiVersion": _VERSION,
        "lastUpdatedTime": timestamp(record.updated),
        "imageRef": record.reference,
        **({"credentialMapping": mapping} if mapping else {}),
    }


def _shown(access: Access) -> dict[str, Any]:
    ordered = sorted(access.secrets.items(), key=lambda pair: _place(pair[0]))
    secrets = [{**_text(where), "credentialHash": digest} for where, digest in ordered]
    accounts = [_text(where) for where in sorted(access.accounts, key=_place)]
    return {
        **({"kubernetesSecrets": secrets} if secrets else {}),
        **({"kubernetesServiceAccounts": accounts} if accounts else {}),
        **({"nodePodsAccessible": True} if access.everybody else {}),
    }


def _place(where: Coordinates) -> tuple[str, str, str]:
    return where.namespace, where.name, where.uid


def _text(where: Coordinates) -> dict[str, str]:
    return {"uid": where.uid, "namespace": where.namespace, "name": where.name}
