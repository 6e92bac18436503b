"""What `tiphys top` shows, computed from two looks at a cluster. Pure.

Sources: https://kubernetes.io/docs/reference/instrumentation/metrics/ and the API of metrics.k8s.io.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object

REQUESTS, LATENCY, OBJECTS, DEPTH = (
    "apiserver_request_total",
    "apiserver_request_sli_duration_seconds_bucket",
    "apiserver_storage_objects",
    "workqueue_depth",
)
_READ = frozenset((REQUESTS, LATENCY, OBJECTS, DEPTH))

Samples = Mapping[tuple[str, str, str], float]
"""Sums of samples by the metric's name, the label that it is shown by, and ``le``."""
_SHOWN_BY = {REQUESTS: "verb", LATENCY: "", OBJECTS: "resource", DEPTH: "name"}


def read_samples(text: str) -> dict[tuple[str, str, str], float]:
    """The samples of a ``/metrics`` page that are shown, others left out."""
    sums: dict[tuple[str, str, str], float] = {}
    wanted = "\n".join(line for line in text.splitlines() if line.split("{", 1)[0].split(" ", 1)[0] in _READ)
    for family in text_string_to_metric_families(f"{wanted}\n"):
        for sample in family.samples:
            labels = sample.labels
            key = (sample.name, labels.get(_SHOWN_BY[sample.name], ""), labels.get("le", ""))
            sums[key] = sums.get(key, 0.0) + sample.value
    return sums


def rates(before: Samples, after: Samples, seconds: float, metric: str) -> dict[str, float]:
    """By label, how much a counter grew each second; one that began again counts from zero."""
    grown: dict[str, float] = {}
    for (name, label, _), value in after.items():
        if name == metric:
            old = before.get((name, label, ""), 0.0)
            grown[label] = (value - old if value >= old else value) / seconds if seconds > 0 else 0.0
    return grown


def quantile(before: Samples, after: Samples, metric: str, share: float) -> float | None:
    """Seconds within which a share of the requests since ``before`` were answered; None without a request.

    As PromQL's histogram_quantile: linear within a bucket; what is above all bounds counts as the highest of them.
    """
    buckets = sorted(
        (float(bound), value - before.get((name, label, bound), 0.0))
        for (name, label, bound), value in after.items()
        if name == metric
    )
    if not buckets or buckets[-1][1] <= 0:
        return None
    rank, below, start = share * buckets[-1][1], 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if bound == float("inf"):
                return start
            return start + (bound - start) * ((rank - below) / (count - below) if count > below else 1.0)
        below, start = count, bound
    return start


def values(samples: Samples, metric: str) -> dict[str, float]:
    return {label: value for (name, label, _), value in samples.items() if name == metric}


class NodeRow(NamedTuple):
    """CPU in cores, memory in bytes."""

    name: str
    state: str
    cpu: float | None
    cpu_total: float
    memory: float | None
    memory_total: float
    pods: int


class PodRow(NamedTuple):
    namespace: str
    name: str
    phase: str
    cpu: float
    memory: float


@dataclass(frozen=True, slots=True)
class Look:
    """What was read at one time (seconds). What could not be read is empty, and says why in ``troubles``."""

    at: float
    nodes: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)
    node_usage: list[Object] = field(default_factory=list)
    pod_usage: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)
    samples: Samples = field(default_factory=dict)
    store_bytes: int | None = None
    troubles: list[str] = field(default_factory=list)


def amount(text: object) -> float:
    """A quantity as a number; 0 for what is absent or none."""
    try:
        return float(Quantity(str(text)).nano) / 1e9 if text is not None else 0.0
    except ValueError:
        return 0.0


def node_rows(look: Look) -> list[NodeRow]:
    used = {each["metadata"]["name"]: each["usage"] for each in look.node_usage}
    counts: dict[str, int] = {}
    for pod in look.pods:
        if pod.get("status", {}).get("phase") == "Running":
            node = pod["spec"].get("nodeName", "")
            counts[node] = counts.get(node, 0) + 1
    return [_node_row(node, used.get(node["metadata"]["name"]), counts) for node in look.nodes]


def _node_row(node: Object, usage: Object | None, counts: Mapping[str, int]) -> NodeRow:
    name, status = node["metadata"]["name"], node.get("status", {})
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())
    cordoned = ",cordoned" if node.get("spec", {}).get("unschedulable") else ""
    total = status.get("allocatable") or {}
    return NodeRow(
        name,
        ("Ready" if ready else "NotReady") + cordoned,
        amount(usage.get("cpu")) if usage else None,
        amount(total.get("cpu")),
        amount(usage.get("memory")) if usage else None,
        amount(total.get("memory")),
        counts.get(name, 0),
    )


def pod_rows(look: Look, most: int) -> list[PodRow]:
    """The pods that use most CPU."""
    phases = {
        (p["metadata"]["namespace"], p["metadata"]["name"]): p.get("status", {}).get("phase", "") for p in look.pods
    }
    rows = []
    for each in look.pod_usage:
        key = each["metadata"]["namespace"], each["metadata"]["name"]
        usages = [container["usage"] for container in each.get("containers") or ()]
        cpu, memory = (sum(amount(usage.get(what)) for usage in usages) for what in ("cpu", "memory"))
        rows.append(PodRow(*key, phases.get(key, ""), cpu, memory))
    return sorted(rows, key=lambda row: (-row.cpu, -row.memory, row.namespace, row.name))[:most]


def recent(events: Iterable[Object], most: int) -> list[Object]:
    """The newest events, newest first."""
    return sorted(events, key=event_time, reverse=True)[:most]


def event_time(event: Object) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return str(next((time for time in times if time), event["metadata"].get("creationTimestamp", "")))
