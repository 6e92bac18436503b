"""Patches of a folder, over the static pods and the kubelet's configuration: ``TARGET[SUFFIX][+TYPE].json|yaml``.

Source: https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/control-plane-flags/#patches
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.api.object import Object
from tiphys.api.patch.failures import PatchError
from tiphys.api.patch.jsonpatch import json_patch
from tiphys.api.patch.mergepatch import merge_patch
from tiphys.api.patch.strategic import strategic_merge_patch
from tiphys.api.schema import OBJECT, Schema, schema_for
from tiphys.api.scheme import GroupVersionKind
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.runtime import yamltext

TARGETS: dict[str, GroupVersionKind | None] = {
    "etcd": GroupVersionKind("", "v1", "Pod"),
    "kube-apiserver": GroupVersionKind("", "v1", "Pod"),
    "kube-controller-manager": GroupVersionKind("", "v1", "Pod"),
    "kube-scheduler": GroupVersionKind("", "v1", "Pod"),
    "kubeletconfiguration": None,
    "corednsdeployment": GroupVersionKind("apps", "v1", "Deployment"),
}
_TYPES = ("strategic", "merge", "json")
_NAME = re.compile(rf"({'|'.join(TARGETS)})([^.+\n]*)(\+)?({'|'.join(_TYPES)})?.*\.(json|yaml)")
_MEDIA = {
    "strategic": "application/strategic-merge-patch+json",
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
}


@dataclass(frozen=True, slots=True)
class Patch:
    file: str
    target: str
    kind: str
    body: Any


def read_folder(folder: Path, say: Callable[[str], None]) -> list[Patch]:
    """The patches of a folder, in the order of their names; what is none is named and left out.

    Raises ``KubeadmError``.
    """
    say(f'[patches] Reading patches from path "{folder}"')
    if not folder.is_dir():
        raise KubeadmError(f'could not list patch files for path "{folder}": it is not a directory')
    made: list[Patch] = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        made += _read(file, say)
    if made:
        say(f"[patches] Found the following patch files: [{' '.join(dict.fromkeys(patch.file for patch in made))}]")
    return made


def _read(file: Path, say: Callable[[str], None]) -> list[Patch]:
    match = _NAME.fullmatch(file.name)
    if match is None:
        known = " ".join(TARGETS)
        say(
            f'[patches] Ignoring file "{file.name}": unknown target or extension, targets are [{known}], .json and'
            " .yaml"
        )
        return []
    target, _, plus, kind, _ = match.groups()
    if plus and not kind:
        raise KubeadmError(
            f"{file}: unknown or missing patch type after '+', must be one of [{' '.join(sorted(_TYPES))}]"
        )
    try:
        bodies = [body for body in yamltext.load_all(file.read_bytes()) if body is not None]
    except (yamltext.YAMLError, OSError) as error:
        raise KubeadmError(f"{file}: {error}") from error
    if not bodies:
        say(f'[patches] Ignoring empty file: "{file.name}"')
    return [Patch(file.name, target, kind or "strategic", body) for body in bodies]


def apply(patches: list[Patch], target: str, obj: Object, say: Callable[[str], None]) -> Object:
    """An object with the patches of a target. Raises ``KubeadmError`` that names the file."""
    for patch in patches:
        if patch.target != target:
            continue
        try:
            obj = _apply(patch, target, copy.deepcopy(obj))
        except (PatchError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise KubeadmError(
                f'could not apply the patch of {patch.file} (type "{_MEDIA[patch.kind]}") to target "{target}": {error}'
            ) from error
        say(f'[patches] Applied patch of type "{_MEDIA[patch.kind]}" to target "{target}"')
    return obj


def _apply(patch: Patch, target: str, obj: Object) -> Object:
    if patch.kind == "json":
        made: Object = json_patch(obj, patch.body)
    elif patch.kind == "merge":
        made = merge_patch(obj, patch.body)
    else:
        gvk = TARGETS[target]
        schema = schema_for(gvk) if gvk is not None else Schema(OBJECT)
        made = strategic_merge_patch(obj, copy.deepcopy(patch.body), schema)
    return made
