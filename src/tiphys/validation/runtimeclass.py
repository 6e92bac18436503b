"""Validation of the node.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#runtimeclass-v1-node-k8s-io
"""

from __future__ import annotations

from tiphys.api import fielderrors as field
from tiphys.api.object import Object
from tiphys.validation.pods.placement import tolerations
from tiphys.validation.pods.podoptions import TEMPLATE
from tiphys.validation.pods.resources import requirements
from tiphys.validation.shared.common import (
    Errors,
    immutable,
    label,
    labels,
)
from tiphys.validation.shared.objectmeta import validate_meta, validate_meta_update


def validate_runtime_class(obj: Object) -> Errors:
    """The errors of a RuntimeClass."""
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False, core=False)
    handler = obj.get("handler")
    if not handler:
        errs.append(field.required("handler"))
    else:
        label(errs, handler, "handler")
    if obj.get("overhead") is not None:
        requirements(errs, {"limits": obj["overhead"].get("podFixed")}, "overhead")
    scheduling = obj.get("scheduling")
    if scheduling is not None:
        labels(errs, scheduling.get("nodeSelector"), "scheduling.nodeSelector")
        _tolerations(errs, scheduling.get("tolerations") or [], "scheduling.tolerations")
    return errs


def _tolerations(errs: Errors, items: list[Object], path: str) -> None:
    tolerations(errs, items, path, TEMPLATE)
    seen: set[tuple[str, ...]] = set()
    for i, toleration in enumerate(items):
        keys = ("key", "operator", "value", "effect")
        identity = tuple(toleration.get(key) or "" for key in keys)
        if identity in seen:
            shown = {key.capitalize(): value for key, value in zip(keys, identity, strict=True)}
            shown_all = {**shown, "TolerationSeconds": toleration.get("tolerationSeconds")}
            errs.append(field.duplicate(f"{path}[{i}]", shown_all))
        seen.add(identity)


def validate_runtime_class_update(new: Object, old: Object) -> Errors:
    errs = validate_runtime_class(new)
    validate_meta_update(errs, new, old, core=False)
    immutable(errs, new.get("handler") or "", old.get("handler") or "", "handler")
    return errs
