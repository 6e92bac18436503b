"""A folder of configuration beside the kubelet's file: ``*.conf`` below it, each merged over what was there before.

Files are taken by name, folder by folder. A map is merged, a list or a value is replaced, and null stands for the
default again. Source: https://kubernetes.io/docs/tasks/administer-cluster/kubelet-config-file/#kubelet-conf-d
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tiphys.api.gotext import quote
from tiphys.api.patch import merge_patch
from tiphys.runtime import yamltext
from tiphys.runtime.component import ConfigError

log = logging.getLogger(__name__)

SUFFIX = ".conf"


def merged(base: Mapping[str, Any], folder: Path, version: str) -> dict[str, Any]:
    """The fields of ``base`` with those of all files. Raises ``ConfigError``."""
    document: dict[str, Any] = dict(base)
    try:
        for path in _files(folder):
            if path.suffix != SUFFIX:
                log.warning("%s is not read: it does not end with %s", path, SUFFIX)
                continue
            document = merge_patch(document, _read(path, version))
    except (OSError, ConfigError) as error:
        raise ConfigError(f"failed to walk through kubelet dropin directory {quote(str(folder))}: {error}") from error
    return document


def _files(folder: Path) -> Iterator[Path]:
    """Those below the folder; links to folders are files."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        else:
            yield Path(entry.path)


def _read(path: Path, version: str) -> dict[str, Any]:
    head = f"failed to load kubelet dropin file, path: {path}, "
    try:
        document = yamltext.load(path.read_bytes())
    except (OSError, yamltext.YAMLError) as error:
        raise ConfigError(f"{head}error: {error}") from error
    if not isinstance(document, dict) or not document.get("kind") or not document.get("apiVersion"):
        raise ConfigError(f"{head}no apiVersion/kind")
    kind, given = document.pop("kind"), document.pop("apiVersion")
    if (kind, given) != ("KubeletConfiguration", version):
        raise ConfigError(f"{head}unknown apiVersion/kind: {given}, Kind={kind}")
    return document
