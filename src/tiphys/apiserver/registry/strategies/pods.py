"""Pods: deleted with grace, their generation counts changes of the spec, and parts of them change by subresources.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

from tiphys.api.fielderrors import FieldError
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.api.pods.apparmor import profiles_from_annotations
from tiphys.api.pods.qos import qos_class
from tiphys.apiserver.registry.registry import Registry
from tiphys.apiserver.registry.strategy import Finish, Strategy, Write, copy_field, keep, keep_metadata
from tiphys.validation.shared.ip import warn_ip
from tiphys.validation.subresources import validate_ephemeral_containers_update, validate_pod_resize

_STATUS_KEEPS_METADATA = ("ownerReferences", "deletionTimestamp")


class PodStrategy(Strategy):
    has_status = True
    counts = ("spec",)
    in_series = True
    graceful = True
    returns_deleted = True
    reset_by_status = ("spec", "metadata.deletionTimestamp", "metadata.ownerReferences")

    def prepare_create(self, obj: Object, write: Write) -> None:
        """Set the generation, the phase, the QoS class, and what scheduling gates imply."""
        obj["metadata"]["generation"] = 1
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(obj["spec"])}
        if obj["spec"].get("schedulingGates"):
            obj["status"] = {
                "phase": "Pending",
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "lastProbeTime": None,
                        "lastTransitionTime": write.now,
                        "reason": "SchedulingGated",
                        "message": "Scheduling is blocked due to non-empty scheduling gates",
                    }
                ],
                "qosClass": obj["status"]["qosClass"],
            }
        merge_label_keys(obj)
        profiles_from_annotations(obj, write.warn)

    def prepare_status_update(self, new: Object, old: Object, write: Write) -> None:
        super().prepare_status_update(new, old, write)
        for name in _STATUS_KEEPS_METADATA:
            copy_field(new["metadata"], old["metadata"], name)
        status, kept = new.setdefault("status", {}), old.get("status") or {}
        for name in ("qosClass", "observedGeneration"):
            if not status.get(name) and kept.get(name):
                status[name] = kept[name]
        _keep_observed_generations(status.get("conditions") or [], kept.get("conditions") or [])

    def warnings(self, new: Object, old: Object | None, subresource: str = "") -> list[str]:
        if subresource != "status":
            return super().warnings(new, old, subresource)
        status = new.get("status") or {}
        messages: list[str] = []
        for kind in ("podIPs", "hostIPs"):
            for i, entry in enumerate(status.get(kind) or ()):
                messages += warn_ip(f"status.{kind}[{i}].ip", entry.get("ip") or "")
        return messages

    def grace_period(self, obj: Object, requested: int | None) -> int:
        spec, phase = obj["spec"], (obj.get("status") or {}).get("phase")
        if not spec.get("nodeName") or phase in ("Failed", "Succeeded"):
            return 0
        grace = spec.get("terminationGracePeriodSeconds") or 0 if requested is None else requested
        return 1 if grace < 0 else int(grace)


def _keep_observed_generations(conditions: list[Object], kept: list[Object]) -> None:
    """A condition sent without ``observedGeneration`` keeps the one it had; of several of a type, each its own."""
    before: dict[str | None, list[int]] = {}
    for condition in kept:
        before.setdefault(condition.get("type"), []).append(condition.get("observedGeneration") or 0)
    for condition in conditions:
        generations = before.get(condition.get("type"))
        generation = generations.pop(0) if generations else 0
        if generation and not condition.get("observedGeneration"):
            condition["observedGeneration"] = generation


def merge_label_keys(pod: Object) -> None:
    """``matchLabelKeys`` and ``mismatchLabelKeys`` become requirements, with the values of the pod's own labels."""
    labels = pod["metadata"].get("labels") or {}
    for term in _affinity_terms(pod["spec"].get("affinity") or {}):
        _merge(term, "matchLabelKeys", "In", labels)
        _merge(term, "mismatchLabelKeys", "NotIn", labels)
    for constraint in pod["spec"].get("topologySpreadConstraints") or []:
        _merge(constraint, "matchLabelKeys", "In", labels)


def _affinity_terms(affinity: Object) -> list[Object]:
    terms: list[Object] = []
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        terms += [w["podAffinityTerm"] for w in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or []]
        terms += rules.get("requiredDuringSchedulingIgnoredDuringExecution") or []
    return terms


def _merge(term: Object, keys: str, operator: str, labels: dict[str, str]) -> None:
    selector = term.get("labelSelector")
    if selector is None:
        return
    for key in term.get(keys) or []:
        if key in labels:
            requirement = {"key": key, "operator": operator, "values": [labels[key]]}
            selector.setdefault("matchExpressions", []).append(requirement)


class _PartRules:
    """An update of one part of a pod's spec, by a subresource."""

    reset: tuple[str, ...] = ()

    def __init__(self, registry: Registry) -> None:
        """The rules are the same for every registry of pods."""

    def prepare(self, new: Object, old: Object, write: Write) -> None:
        spec = self.spec(new["spec"], old["spec"])
        for name in (new.keys() | old.keys()) - {"metadata", "kind", "apiVersion", "spec"}:
            copy_field(new, old, name)
        keep_metadata(new["metadata"], old["metadata"])
        new["spec"] = spec
        if spec != old["spec"]:
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def spec(self, new: Object, old: Object) -> Object:
        raise NotImplementedError

    async def begin(self, new: Object, old: Object, write: Write) -> Finish:
        return keep


class EphemeralContainersRules(_PartRules):
    """``pods/ephemeralcontainers``: nothing but the list of ephemeral containers changes."""

    def spec(self, new: Object, old: Object) -> Object:
        kept = dict(old)
        copy_field(kept, new, "ephemeralContainers")
        return kept

    def validate(self, new: Object, old: Object, write: Write) -> list[FieldError]:
        return validate_ephemeral_containers_update(new, old)


class ResizeRules(_PartRules):
    """``pods/resize``: nothing but the resources and resize policies of containers changes."""

    def spec(self, new: Object, old: Object) -> Object:
        kept = dict(old)
        for kind in ("containers", "initContainers"):
            containers, before = new.get(kind) or [], old.get(kind) or []
            if [c.get("name") for c in containers] != [c.get("name") for c in before]:
                return new
            if before:
                kept[kind] = [_resized(c, b) for c, b in zip(containers, before, strict=True)]
        copy_field(kept, new, "resources")
        return kept

    def validate(self, new: Object, old: Object, write: Write) -> list[FieldError]:
        return validate_pod_resize(new, old)


def _resized(container: Object, before: Object) -> Object:
    pod: Object = copy(before)
    for name in ("resources", "resizePolicy"):
        copy_field(pod, container, name)
    return pod
