"""Which daemon pods to create and to delete on which nodes: pure decisions.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/ and, for updates,
https://kubernetes.io/docs/tasks/manage-daemon/update-daemon-set/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.api.meta.intorstring import scaled_value
from tiphys.api.object import Object
from tiphys.api.scheduling.nodeselector import takes_node
from tiphys.api.scheduling.taints import EVICTING, HARD, taints_of, tolerations_of, untolerated
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.objects import (
    annotations_of,
    copy,
    created_at,
    is_deleting,
    labels_of,
    name_of,
)
from tiphys.controllers.history import HASH_LABEL

GENERATION_LABEL = "pod-template-generation"
GENERATION_ANNOTATION = "deprecated.daemonset.template.generation"

_TOLERATIONS = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)


# Templates


def with_tolerations(spec: Object) -> Object:
    """The pod spec with the tolerations that every daemon pod has."""
    wanted = list(_TOLERATIONS)
    if spec.get("hostNetwork"):
        wanted.append(("node.kubernetes.io/network-unavailable", "NoSchedule"))
    tolerations = list(spec.get("tolerations") or ())
    for key, effect in wanted:
        toleration = {"key": key, "operator": "Exists", "effect": effect}
        kept = [t for t in tolerations if not _same_toleration(t, toleration)]
        tolerations = [*kept, toleration]
    return {**spec, "tolerations": tolerations}


def _same_toleration(left: Object, right: Object) -> bool:
    fields = ("key", "operator", "effect", "value")
    return all((left.get(field) or "") == (right.get(field) or "") for field in fields)


def template_generation(daemon_set: Object) -> str | None:
    text = annotations_of(daemon_set).get(GENERATION_ANNOTATION, "")
    return text if text.isascii() and text.isdigit() else None


def pod_template(daemon_set: Object, digest: str) -> Object:
    template: Object = copy(daemon_set["spec"]["template"])
    template["spec"] = with_tolerations(template["spec"])
    meta = template.get("metadata") or {}
    labels = dict(meta.get("labels") or {})
    generation = template_generation(daemon_set)
    if generation is not None:
        labels[GENERATION_LABEL] = generation
    if digest:
        labels[HASH_LABEL] = digest
    template["metadata"] = {**meta, "labels": labels}
    return template


def for_node(template: Object, node: str) -> Object:
    """The template bound to one node by affinity, for the scheduler to place."""
    result: Object = copy(template)
    affinity = result["spec"].get("affinity") or {}
    own = affinity.get("nodeAffinity") or {}
    required = dict(own.get("requiredDuringSchedulingIgnoredDuringExecution") or {})
    field_term = {"key": "metadata.name", "operator": "In", "values": [node]}
    required["nodeSelectorTerms"] = [{"matchFields": [field_term]}]
    own = {**own, "requiredDuringSchedulingIgnoredDuringExecution": required}
    result["spec"]["affinity"] = {**affinity, "nodeAffinity": own}
    return result


def target_node(pod: Object) -> str | None:
    """The node that a daemon pod runs on, or is meant for."""
    if podkit.node_of(pod):
        return podkit.node_of(pod)
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for wanted in term.get("matchFields") or ():
            if wanted["key"] == "metadata.name" and wanted["operator"] == "In" and len(wanted["values"]) == 1:
                return str(wanted["values"][0])
    return None


# Nodes


def should_run(node: Object, daemon_set: Object) -> tuple[bool, bool]:
    """Whether a daemon pod is to be on the node, and whether one that is there may stay."""
    spec = daemon_set["spec"]["template"]["spec"]
    if spec.get("nodeName") not in (None, "", name_of(node)) or not takes_node(spec, node):
        return False, False
    tolerations = tolerations_of(with_tolerations(spec))
    if taints := untolerated(taints_of(node), tolerations, HARD):
        return False, not untolerated(taints, tolerations, EVICTING)
    return True, True


def _by_age(pod: Object) -> tuple[bool, str, str]:
    """Scheduled pods first, then by age."""
    return not podkit.node_of(pod), created_at(pod), name_of(pod)


def by_node(pods: Iterable[Object], *, include_deleted_terminal: bool = False) -> dict[str, list[Object]]:
    pods_by_node: dict[str, list[Object]] = {}
    for pod in pods:
        if not include_deleted_terminal and podkit.is_finished(pod) and is_deleting(pod):
            continue
        node = target_node(pod)
        if node is not None:
            pods_by_node.setdefault(node, []).append(pod)
    return pods_by_node


# What to do


@dataclass(slots=True)
class PodPlan:
    """Names of nodes that need a pod, names of pods to delete, and failed or succeeded pods to report."""

    create: list[str] = field(default_factory=list)
    delete: list[str] = field(default_factory=list)
    ended: list[tuple[Object, str]] = field(default_factory=list)
    """Pods that ended, each with its node."""


def is_rolling(daemon_set: Object) -> bool:
    return bool(_strategy(daemon_set).get("type", "RollingUpdate") == "RollingUpdate")


def _strategy(daemon_set: Object) -> Object:
    return daemon_set["spec"].get("updateStrategy") or {}


def surge_count(daemon_set: Object, nodes: int) -> int:
    rolling = _strategy(daemon_set).get("rollingUpdate")
    if not is_rolling(daemon_set) or not rolling:
        return 0
    return scaled_value(rolling.get("maxSurge") or 0, nodes, round_up=True)


def unavailable_count(daemon_set: Object, nodes: int) -> int:
    rolling = _strategy(daemon_set).get("rollingUpdate")
    if not is_rolling(daemon_set) or not rolling:
        return 0
    limit = rolling.get("maxUnavailable")
    return scaled_value(1 if limit is None else limit, nodes, round_up=True)


def min_ready(daemon_set: Object) -> int:
    return int(daemon_set["spec"].get("minReadySeconds") or 0)


def manage(
    daemon_set: Object,
    nodes: Sequence[Object],
    pods: Mapping[str, list[Object]],
    digest: str,
    now: float,
    may_replace: Callable[[str], bool],
) -> PodPlan:
    """Have one pod on each node. ``may_replace(node)`` says whether a failed pod's back-off is over."""
    plan = PodPlan()
    for node in nodes:
        _manage_node(daemon_set, node, pods.get(name_of(node)), digest, now, may_replace, plan)
    known = {name_of(node) for node in nodes}
    for node_name, own in pods.items():
        if node_name not in known:
            plan.delete += [name_of(pod) for pod in own if not podkit.node_of(pod)]
    return plan


def _manage_node(
    daemon_set: Object,
    node: Object,
    pods: list[Object] | None,
    digest: str,
    now: float,
    may_replace: Callable[[str], bool],
    plan: PodPlan,
) -> None:
    """Add to ``plan`` what one node needs: create, delete, or nothing."""
    run, stay = should_run(node, daemon_set)
    if run and pods is None:
        plan.create.append(name_of(node))
    elif stay:
        running = _running(pods or [], name_of(node), may_replace, plan)
        if surge_count(daemon_set, 1) == 0:
            plan.delete += [name_of(pod) for pod in sorted(running, key=_by_age)[1:]]
        elif len(running) > 1:
            plan.delete += _surplus_while_surging(daemon_set, running, digest, now)
        elif not running and run:
            plan.create.append(name_of(node))
    elif pods is not None:
        plan.delete += [name_of(pod) for pod in pods if not is_deleting(pod)]


def _running(pods: Iterable[Object], node: str, may_replace: Callable[[str], bool], plan: PodPlan) -> list[Object]:
    """The node's pods that run or will; those that ended are noted to be deleted."""
    running = []
    for pod in pods:
        if is_deleting(pod):
            continue
        if podkit.phase_of(pod) == "Succeeded" or (podkit.phase_of(pod) == "Failed" and may_replace(node)):
            plan.ended.append((pod, node))
            plan.delete.append(name_of(pod))
        elif podkit.phase_of(pod) != "Failed":
            running.append(pod)
    return running


def _surplus_while_surging(daemon_set: Object, running: Iterable[Object], digest: str, now: float) -> list[str]:
    """Keep the oldest new and the oldest old pod; drop the old one once the new one serves, or it does not itself."""
    new = old = None
    surplus = []
    for pod in sorted(running, key=_by_age):
        updated = labels_of(pod).get(HASH_LABEL) == digest
        if updated and new is None:
            new = pod
        elif not updated and old is None:
            old = pod
        else:
            surplus.append(name_of(pod))
    if new is not None and old is not None:
        available = podkit.is_available(new, min_ready(daemon_set), now)
        if not podkit.is_ready(old) or available:
            surplus.append(name_of(old))
    return surplus


# Rolling update


def is_updated(daemon_set: Object, pod: Object, digest: str) -> bool:
    generation = template_generation(daemon_set)
    labels = labels_of(pod)
    if generation is not None and labels.get(GENERATION_LABEL) == generation:
        return True
    return bool(digest) and labels.get(HASH_LABEL) == digest


def _new_and_old(daemon_set: Object, pods: Iterable[Object], digest: str) -> tuple[Object | None, Object | None] | None:
    """The updated and the other pod of one node; None if it has two of a kind."""
    new = old = None
    for pod in pods:
        if is_deleting(pod):
            continue
        if is_updated(daemon_set, pod, digest):
            if new is not None:
                return None
            new = pod
        else:
            if old is not None:
                return None
            old = pod
    return new, old


def rolling_update(
    daemon_set: Object, nodes: Sequence[Object], pods: Mapping[str, list[Object]], digest: str, now: float
) -> PodPlan:
    """Replace pods of former templates, as many at a time as the strategy allows."""
    wanted = [name_of(node) for node in nodes if should_run(node, daemon_set)[0]]
    by_name: dict[str, list[Object]] = {**{name: [] for name in wanted}, **pods}
    surge, unavailable = surge_count(daemon_set, len(wanted)), unavailable_count(daemon_set, len(wanted))
    if wanted and not surge and not unavailable:
        unavailable = 1
    if surge == 0:
        return _replace(daemon_set, by_name, digest, unavailable, now)
    known = {name_of(node): node for node in nodes}
    return _surge(daemon_set, by_name, known, digest, surge, len(wanted), now)


def _replace(daemon_set: Object, pods: Mapping[str, list[Object]], digest: str, limit: int, now: float) -> PodPlan:
    """Delete old pods; the next reconciliation creates new ones in their place."""
    out, free, candidates = 0, [], []
    for own in pods.values():
        pair = _new_and_old(daemon_set, own, digest)
        if pair is None:
            out += 1
            continue
        new, old = pair
        if (new is None) == (old is None):
            out += 1
        elif new is not None:
            out += not podkit.is_available(new, min_ready(daemon_set), now)
        elif old is not None and not podkit.is_available(old, min_ready(daemon_set), now):
            free.append(name_of(old))
            out += 1
        elif old is not None and out < limit:
            candidates.append(name_of(old))
    return PodPlan(delete=free + candidates[: max(limit - out, 0)])


def _surge(
    daemon_set: Object,
    pods: Mapping[str, list[Object]],
    nodes: Mapping[str, Object],
    digest: str,
    limit: int,
    desired: int,
    now: float,
) -> PodPlan:
    """Create new pods beside old ones, which are deleted when the new ones serve."""
    plan, surging, serving = PodPlan(), 0, 0
    leaving: list[str] = []
    candidates: list[str] = []

    def available(pod: Object) -> bool:
        return podkit.is_available(pod, min_ready(daemon_set), now)

    for node_name, own in pods.items():
        pair = _new_and_old(daemon_set, own, digest)
        if pair is None:
            surging += 1
            continue
        new, old = pair
        present = old if old is not None else new
        serving += present is not None and available(present)
        if old is None:
            continue
        if new is not None:
            if available(new):
                plan.delete.append(name_of(old))
            else:
                surging += 1
            continue
        node = nodes.get(node_name)
        wanted = node is not None and should_run(node, daemon_set)[0]
        if not available(old):
            (plan.create if wanted else plan.delete).append(node_name if wanted else name_of(old))
        elif not wanted:
            leaving.append(name_of(old))
        elif surging < limit:
            candidates.append(node_name)
    plan.delete += leaving[: max(serving - desired, 0)]
    plan.create += candidates[: max(limit - surging, 0)]
    return plan


# Status


def calculate_status(
    daemon_set: Object, nodes: Iterable[Object], pods: Mapping[str, list[Object]], digest: str, now: float
) -> dict[str, int]:
    """The numbers of the status."""
    desired = current = misscheduled = ready = available = updated = 0
    for node in nodes:
        own = pods.get(name_of(node)) or []
        run, _ = should_run(node, daemon_set)
        if not run:
            misscheduled += bool(own)
            continue
        desired += 1
        if not own:
            continue
        current += 1
        pod = min(own, key=_by_age)
        if podkit.is_ready(pod):
            ready += 1
            available += podkit.is_available(pod, min_ready(daemon_set), now)
        updated += is_updated(daemon_set, pod, digest)
    return {
        "currentNumberScheduled": current,
        "numberMisscheduled": misscheduled,
        "desiredNumberScheduled": desired,
        "numberReady": ready,
        "updatedNumberScheduled": updated,
        "numberAvailable": available,
        "numberUnavailable": desired - available,
    }
