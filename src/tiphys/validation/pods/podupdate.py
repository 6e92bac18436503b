"""Validation of updates of a pod: nearly all of its specification is immutable.

Source: "Pod update and replacement" in the documentation; KEP-3838 for what a gated pod may change.
"""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.gotext import quote
from tiphys.api.meta import names
from tiphys.api.meta.fingerprints import fingerprint
from tiphys.api.object import Object
from tiphys.validation.pods import placement
from tiphys.validation.pods.options import waivers
from tiphys.validation.pods.pod import MIRROR, pod_annotations, pod_metadata_and_spec
from tiphys.validation.pods.podoptions import PodOptions
from tiphys.validation.pods.security import APPARMOR_CONTAINER
from tiphys.validation.shared.common import (
    MAX_INT32,
    Errors,
    equal,
    sorted_map,
)
from tiphys.validation.shared.internal import internal_value, pod_spec_diff, spec_diff
from tiphys.validation.shared.objectmeta import meta_of, validate_meta_update

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_UPDATABLE = ",".join(
    (
        "`spec.containers[*].image`",
        "`spec.initContainers[*].image`",
        "`spec.activeDeadlineSeconds`",
        "`spec.tolerations` (only additions to existing tolerations)",
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
    )
)


def validate_pod_update(new: Object, old: Object) -> Errors:
    """The errors of an update of a pod: images, the deadline, and added tolerations may change."""
    errs: Errors = []
    options = waivers(old, is_pod=True)
    validate_meta_update(errs, new, old)
    pod_metadata_and_spec(errs, new, options)
    annotation_updates(errs, new, old, options)
    after, before = new.get("spec") or {}, old.get("spec") or {}
    for key in ("containers", "initContainers"):
        if not _images(errs, after.get(key) or [], before.get(key) or [], f"spec.{key}"):
            return errs
    if not _deadline(errs, after, before):
        return errs
    _tolerations(errs, after.get("tolerations") or [], before.get("tolerations") or [], options)
    _gates(errs, after.get("schedulingGates") or [], before.get("schedulingGates") or [])
    if equal(after, before):
        return errs
    munged = _without_updatable(after, before)
    if before.get("schedulingGates"):
        _gated(errs, munged, before)
    if not equal(munged, before):
        text = f"pod updates may not change fields other than {_UPDATABLE}\n{pod_spec_diff(before, munged)}"
        errs.append(field.forbidden("spec", text))
    return errs


def annotation_updates(errs: Errors, new: Object, old: Object, options: PodOptions) -> None:
    """Validate the pod's annotations on update: AppArmor's and the mirror annotation are immutable.

    Appends to ``errs``.
    """
    after, before = meta_of(new).get("annotations") or {}, meta_of(old).get("annotations") or {}
    for key, value in before.items():
        if after.get(key) != value:
            if key.startswith(APPARMOR_CONTAINER):
                errs.append(
                    field.forbidden(f"metadata.annotations[{key}]", "may not remove or update AppArmor annotations")
                )
            if key == MIRROR:
                text = "may not remove or update mirror pod annotation"
                errs.append(field.forbidden(f"metadata.annotations[{key}]", text))
    for key in after:
        if key not in before:
            if key.startswith(APPARMOR_CONTAINER):
                errs.append(field.forbidden(f"metadata.annotations[{key}]", "may not add AppArmor annotations"))
            if key == MIRROR:
                errs.append(field.forbidden(f"metadata.annotations[{key}]", "may not add mirror pod annotation"))
    if after:
        pod_annotations(errs, after, new.get("spec") or {}, "metadata.annotations", options)


def _images(errs: Errors, new: list[Object], old: list[Object], path: str) -> bool:
    """False if the containers are not the same ones, and nothing else is worth saying."""
    if len(new) != len(old):
        errs.append(field.forbidden(path, "pod updates may not add or remove containers"))
        return False
    for i, container in enumerate(new):
        image = container.get("image") or ""
        if not image:
            errs.append(field.required(f"{path}[{i}].image"))
        if image.strip() != image:
            text = "must not have leading or trailing whitespace"
            errs.append(field.invalid(f"{path}[{i}].image", image, text))
    return True


def _deadline(errs: Errors, new: Object, old: Object) -> bool:
    after, before, at = new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds"), "spec.activeDeadlineSeconds"
    if after is None:
        if before is not None:
            errs.append(field.invalid(at, None, "must not update from a positive integer to nil value"))
        return True
    if not 0 <= after <= MAX_INT32:
        errs.append(field.invalid(at, after, names.range_error(0, MAX_INT32)))
        return False
    if before is not None and before < after:
        errs.append(field.invalid(at, after, "must be less than or equal to previous value"))
        return False
    return True


def _tolerations(errs: Errors, new: list[Object], old: list[Object], options: PodOptions) -> None:
    def without_seconds(toleration: Object) -> Object:
        return {key: value for key, value in toleration.items() if key != "tolerationSeconds" and value}

    after = {fingerprint(without_seconds(t)) for t in new}
    if any(fingerprint(without_seconds(t)) not in after for t in old):
        text = "existing toleration can not be modified except its tolerationSeconds"
        errs.append(field.forbidden("spec.tolerations", text))
        return
    placement.tolerations(errs, new, "spec.tolerations", options)


def _gates(errs: Errors, new: list[Object], old: list[Object]) -> None:
    before = {gate.get("name") for gate in old}
    for i, gate in enumerate(new):
        if gate.get("name") not in before:
            text = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            errs.append(field.forbidden(f"spec.schedulingGates[{i}].name", text))


def _without_updatable(new: Object, old: Object) -> Object:
    """The new specification with what may change set back."""
    munged: dict[str, Any] = dict(new)
    for key in ("containers", "initContainers"):
        if new.get(key):
            pairs = zip(new[key], old[key], strict=True)
            munged[key] = [{**after, "image": before.get("image")} for after, before in pairs]
    for key in ("activeDeadlineSeconds", "schedulingGates", "tolerations"):
        munged[key] = old.get(key)
    before = old.get("terminationGracePeriodSeconds")
    if before is not None and before < 0 and munged.get("terminationGracePeriodSeconds") == 1:
        munged["terminationGracePeriodSeconds"] = before
    return munged


def _gated(errs: Errors, munged: Object, old: Object) -> None:
    """A pod that is not yet up for scheduling may be narrowed down further."""
    after, before = munged.get("nodeSelector") or {}, old.get("nodeSelector") or {}
    if after != before:
        if any(after.get(key) != value for key, value in before.items()):
            text = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
            errs.append(field.invalid("spec.nodeSelector", sorted_map(after or None), text))
        munged["nodeSelector"] = old.get("nodeSelector")
    old_affinity, new_affinity = old.get("affinity"), munged.get("affinity")
    before, after = (old_affinity or {}).get("nodeAffinity"), (new_affinity or {}).get("nodeAffinity")
    if equal(before, after):
        return
    _node_affinity(errs, after or {}, before or {})
    if new_affinity is None:
        munged["affinity"] = {"nodeAffinity": before} if before is not None else None
    elif old_affinity is None and not new_affinity.get("podAffinity") and not new_affinity.get("podAntiAffinity"):
        munged["affinity"] = None
    else:
        munged["affinity"] = {**new_affinity, "nodeAffinity": before}


def _node_affinity(errs: Errors, new: Object, old: Object) -> None:
    before = (old.get(_REQUIRED) or {}).get("nodeSelectorTerms") or []
    after = (new.get(_REQUIRED) or {}).get("nodeSelectorTerms") or []
    at = f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms"
    if not before:
        return
    if len(before) != len(after):
        shown = [internal_value("NodeSelectorTerm", term) for term in after] or None
        text = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        errs.append(field.invalid(at, shown, text))
        return
    for i, (a, b) in enumerate(zip(after, before, strict=True)):
        if not _only_added(a, b):
            text = "only additions are allowed (no mutations or deletions)"
            errs.append(field.invalid(f"{at}[{i}]", internal_value("NodeSelectorTerm", a), text))


def _only_added(new: Object, old: Object) -> bool:
    keys = ("matchExpressions", "matchFields")
    if not any(old.get(key) for key in keys):
        return not any(new.get(key) for key in keys)
    return all(equal((new.get(key) or [])[: len(old.get(key) or [])], old.get(key) or []) for key in keys)


def validate_ephemeral_containers_update(new: Object, old: Object) -> Errors:
    """The ``ephemeralcontainers`` subresource: they can be added, and are never changed or removed."""
    errs: Errors = []
    options = waivers(old, is_pod=True)
    validate_meta_update(errs, new, old)
    pod_metadata_and_spec(errs, new, options)
    annotation_updates(errs, new, old, options)
    if MIRROR in (meta_of(old).get("annotations") or {}):
        return [field.forbidden("[]", "static pods do not support ephemeral containers")]
    by_name = {c.get("name"): c for c in (new.get("spec") or {}).get("ephemeralContainers") or ()}
    at = "spec.ephemeralContainers"
    for before in (old.get("spec") or {}).get("ephemeralContainers") or ():
        name = before.get("name") or ""
        after = by_name.get(name)
        if after is None:
            errs.append(field.forbidden(at, f"existing ephemeral containers {quote(name)} may not be removed\n"))
        elif not equal(before, after):
            difference = spec_diff("EphemeralContainer", before, after)
            text = f"existing ephemeral containers {quote(name)} may not be changed\n{difference}"
            errs.append(field.forbidden(at, text))
    return errs
