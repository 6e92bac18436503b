"""The node's own credentials, for every pod: docker's ``config.json`` or ``.dockercfg`` in the usual places.

Source: https://kubernetes.io/docs/concepts/containers/images/#configuring-nodes-to-authenticate-to-a-private-registry
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tiphys.kubelet.images.keyring import Entries, Keyring, KeyringError, load_json, read_config, read_entries
from tiphys.runtime.clock import Clock

LIFETIME = 300.0
"""Seconds after which the file is read again."""


class NodeKeyring:
    """``root`` is the kubelet's folder, where is looked first."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._until = float("-inf")
        self._ring = Keyring()

    def ring(self) -> Keyring:
        now = self._clock.monotonic()
        if now >= self._until:
            self._until = now + LIFETIME
            self._ring = Keyring()
            self._ring.add(next(self._found(), {}))
        return self._ring

    def _found(self) -> Iterator[Entries]:
        """What the files hold that can be read, the one that counts first."""
        home = Path(os.environ.get("HOME") or "/")
        for folder in (self._root, Path(), home / ".docker", Path("/.docker")):
            try:
                yield read_config((folder / "config.json").read_bytes())
            except (OSError, KeyringError):
                continue
        for folder in (self._root, Path(), home, Path("/")):
            try:
                yield read_entries(load_json((folder / ".dockercfg").read_bytes()))
            except (OSError, KeyringError):
                continue
