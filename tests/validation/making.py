"""Objects to validate, and what is found in them."""

from __future__ import annotations

import copy
import re
from typing import Any

from tiphys.api.defaults import apply_defaults
from tiphys.api.object import Object
from tiphys.api.resources import builtin_scheme
from tiphys.api.scheme import GroupVersionKind
from tiphys.validation import validate_create, validate_status_update, validate_update

CONTAINER: Object = {"name": "c", "image": "i"}


def gvk_of(api_version: str, kind: str) -> GroupVersionKind:
    group, _, version = api_version.rpartition("/")
    return GroupVersionKind(group, version, kind)


def made(api_version: str, kind: str, obj: Object) -> Object:
    """The object with defaults, a name and, where it has one, a namespace."""
    gvk = gvk_of(api_version, kind)
    found = copy.deepcopy(obj)
    apply_defaults(found, gvk)
    meta = found.setdefault("metadata", {})
    if "generateName" not in meta:
        meta.setdefault("name", "x")
    resource = builtin_scheme().for_kind(gvk.group, gvk.kind)
    if resource is None or resource.namespaced:
        meta.setdefault("namespace", "ns")
    return found


def short(text: str) -> str:
    """Without the pattern that a name has to match, which ends many messages."""
    return re.sub(r" \(e\.g\. .*regex used for validation is '.*'\)", "", text)


def create(api_version: str, kind: str, obj: Object) -> list[str]:
    return [short(str(e)) for e in validate_create(made(api_version, kind, obj), gvk_of(api_version, kind))]


def _stored(api_version: str, kind: str, obj: Object) -> Object:
    found = made(api_version, kind, obj)
    found["metadata"].setdefault("resourceVersion", "1")
    return found


def update(api_version: str, kind: str, new: Object, old: Object) -> list[str]:
    """Every error once, though most of those about metadata come twice."""
    args = (_stored(api_version, kind, obj) for obj in (new, old))
    return list(dict.fromkeys(short(str(e)) for e in validate_update(*args, gvk_of(api_version, kind))))


def status_update(api_version: str, kind: str, new: Object, old: Object) -> list[str]:
    args = (_stored(api_version, kind, obj) for obj in (new, old))
    return list(dict.fromkeys(short(str(e)) for e in validate_status_update(*args, gvk_of(api_version, kind))))


def pod(**spec: Any) -> Object:
    return {"spec": {"containers": [CONTAINER], **spec}}


def changed(container: Object) -> Object:
    return pod(containers=[{**CONTAINER, **container}])
