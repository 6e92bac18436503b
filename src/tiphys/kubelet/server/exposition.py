"""/metrics/resource and /metrics/cadvisor: a snapshot in Prometheus' text format, under upstream's names. Pure.

Source: https://kubernetes.io/docs/reference/instrumentation/node-metrics/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tiphys.kubelet.server.snapshot import RunningContainer, RunningPod, Snapshot

Labels = Mapping[str, str]


@dataclass(slots=True)
class Family:
    """One metric with all its samples: (labels, value, Unix milliseconds or None)."""

    name: str
    kind: str
    help: str
    samples: list[tuple[Labels, float, int | None]] = field(default_factory=list)

    def add(self, value: float, labels: Labels, at: float | None = None) -> None:
        self.samples.append((labels, value, None if at is None else int(at * 1000)))

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value, at in self.samples:
            tags = ",".join(f'{name}="{_escape(text)}"' for name, text in sorted(labels.items()))
            yield f"{self.name}{f'{{{tags}}}' if tags else ''} {_number(value)}{'' if at is None else f' {at}'}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def expose(families: list[Family]) -> str:
    return "".join(f"{line}\n" for family in families if family.samples for line in family.lines())


def resource_metrics(snapshot: Snapshot) -> str:
    """What autoscalers need: processor, memory and swap of node, pods and containers."""
    node, now = snapshot.machine.use, snapshot.now
    cpu = Family("container_cpu_usage_seconds_total", "counter", "Processor time of the container in core-seconds")
    memory = Family("container_memory_working_set_bytes", "gauge", "Working set of the container in bytes")
    swap = Family("container_swap_usage_bytes", "gauge", "Swap that the container uses in bytes")
    limit = Family("container_swap_limit_bytes", "gauge", "Swap that the container may use in bytes")
    began = Family("container_start_time_seconds", "gauge", "Start of the container in seconds since the Unix epoch")
    pod_cpu = Family("pod_cpu_usage_seconds_total", "counter", "Processor time of the pod in core-seconds")
    pod_memory = Family("pod_memory_working_set_bytes", "gauge", "Working set of the pod in bytes")
    pod_swap = Family("pod_swap_usage_bytes", "gauge", "Swap that the pod uses in bytes")
    node_cpu = Family("node_cpu_usage_seconds_total", "counter", "Processor time of the node in core-seconds")
    node_memory = Family("node_memory_working_set_bytes", "gauge", "Working set of the node in bytes")
    node_swap = Family("node_swap_usage_bytes", "gauge", "Swap that the node uses in bytes")
    errors = Family("resource_scrape_error", "gauge", "1 if the figures could not be had, else 0")
    old_errors = Family("scrape_error", "gauge", "1 if the figures could not be had, else 0 (the older name)")
    for pod in snapshot.pods:
        tags = {"namespace": pod.sandbox.namespace, "pod": pod.sandbox.name}
        for container in pod.containers:
            stats, own = container.stats, {**tags, "container": container.name}
            began.add(container.container.created_at, own)
            if stats.timestamp <= 0:
                continue
            cpu.add(stats.cpu_ns / 1e9, own, stats.timestamp)
            memory.add(stats.memory_working_set, own, stats.timestamp)
            swap.add(stats.swap_usage, own, stats.timestamp)
            limit.add(stats.swap_usage + stats.swap_available, own, stats.timestamp)
        pod_cpu.add(sum(c.stats.cpu_ns for c in pod.containers) / 1e9, tags, now)
        pod_memory.add(sum(c.stats.memory_working_set for c in pod.containers), tags, now)
        pod_swap.add(sum(c.stats.swap_usage for c in pod.containers), tags, now)
    node_cpu.add(node.cpu_ns / 1e9, {}, now)
    node_memory.add(node.working_set, {}, now)
    node_swap.add(node.swap, {}, now)
    errors.add(0, {})
    old_errors.add(0, {})
    families = [cpu, memory, swap, limit, began, pod_cpu, pod_memory, pod_swap, node_cpu, node_memory, node_swap]
    return expose([*families, errors, old_errors])


def cadvisor_metrics(snapshot: Snapshot, kernel: str, system: str, cpus: int) -> str:
    """What dashboards read: the figures of containers and pods under cAdvisor's names."""
    return expose([*_machine_families(snapshot, kernel, system, cpus), *_container_families(snapshot)])


def _machine_families(snapshot: Snapshot, kernel: str, system: str, cpus: int) -> list[Family]:
    version = Family("cadvisor_version_info", "gauge", "Versions of the kernel and the system; always 1")
    tags = {"cadvisorRevision": "", "cadvisorVersion": "", "dockerVersion": ""}
    version.add(1, {**tags, "kernelVersion": kernel, "osVersion": system})
    cores = Family("machine_cpu_cores", "gauge", "Processors of the machine")
    cores.add(cpus, {})
    memory = Family("machine_memory_bytes", "gauge", "Memory of the machine in bytes")
    memory.add(snapshot.machine.memory_capacity, {})
    swap = Family("machine_swap_bytes", "gauge", "Swap of the machine in bytes")
    swap.add(snapshot.machine.swap_total, {})
    error = Family("container_scrape_error", "gauge", "1 if the figures could not be had, else 0")
    error.add(0, {})
    return [version, cores, memory, swap, error]


_CONTAINER = (
    ("container_cpu_usage_seconds_total", "counter", "Processor time in seconds"),
    ("container_memory_usage_bytes", "gauge", "Memory in use in bytes, files in the cache included"),
    ("container_memory_working_set_bytes", "gauge", "Working set in bytes"),
    ("container_memory_rss", "gauge", "Anonymous memory in bytes"),
    ("container_memory_swap", "gauge", "Swap in use in bytes"),
    ("container_fs_usage_bytes", "gauge", "Bytes that the container has written to its own layer"),
    ("container_fs_limit_bytes", "gauge", "Bytes of the filesystem of the container's layer"),
    ("container_fs_inodes_total", "gauge", "Inodes of the filesystem of the container's layer"),
    ("container_fs_inodes_free", "gauge", "Free inodes of the filesystem of the container's layer"),
    ("container_start_time_seconds", "gauge", "Start of the container in seconds since the Unix epoch"),
    ("container_last_seen", "gauge", "When the container was last seen, in seconds since the Unix epoch"),
)
_NETWORK = (
    ("container_network_receive_bytes_total", "rx_bytes", "Bytes received"),
    ("container_network_receive_errors_total", "rx_errors", "Errors while receiving"),
    ("container_network_transmit_bytes_total", "tx_bytes", "Bytes sent"),
    ("container_network_transmit_errors_total", "tx_errors", "Errors while sending"),
)


def _container_families(snapshot: Snapshot) -> list[Family]:
    """The families of cAdvisor's container metrics for one snapshot."""
    families = {name: Family(name, kind, text) for name, kind, text in _CONTAINER}
    failures = Family("container_memory_failures_total", "counter", "Page faults")
    processes = Family("container_processes", "gauge", "Processes of the pod")
    network = {name: Family(name, "counter", text) for name, _, text in _NETWORK}
    for pod in snapshot.pods:
        whole = _pod_tags(pod)
        processes.add(pod.stats.processes, whole, snapshot.now)
        for container in pod.containers:
            tags = _tags(pod, container)
            for family, value in zip(families.values(), _figures(container, snapshot), strict=True):
                family.add(value, tags, container.stats.timestamp)
            faults = (("pgfault", container.stats.page_faults), ("pgmajfault", container.stats.major_page_faults))
            for kind, count in faults:
                more = {"failure_type": kind, "scope": "container"}
                failures.add(count, {**tags, **more}, container.stats.timestamp)
        if not pod.sandbox.host_network:
            for name, attribute, _ in _NETWORK:
                for interface in {one.name: one for one in pod.stats.interfaces}.values():
                    figure = getattr(interface, attribute)
                    network[name].add(figure, {**whole, "interface": interface.name}, snapshot.now)
    return [*families.values(), failures, processes, *network.values()]


def _pod_tags(pod: RunningPod) -> dict[str, str]:
    of_pod = {"namespace": pod.sandbox.namespace, "pod": pod.sandbox.name}
    return {**of_pod, "container": "", "id": pod.sandbox.id, "image": "", "name": ""}


def _tags(pod: RunningPod, running: RunningContainer) -> dict[str, str]:
    own = running.container
    return {**_pod_tags(pod), "container": running.name, "id": own.id, "image": own.image, "name": own.id}


def _figures(running: RunningContainer, snapshot: Snapshot) -> tuple[float, ...]:
    """In the order of ``_CONTAINER``."""
    stats = running.stats
    return (
        stats.cpu_ns / 1e9,
        stats.memory_usage,
        stats.memory_working_set,
        stats.memory_rss,
        stats.swap_usage,
        stats.filesystem_used,
        snapshot.image_disk.capacity,
        snapshot.image_disk.inodes,
        snapshot.image_disk.inodes_free,
        running.container.created_at,
        snapshot.now,
    )
