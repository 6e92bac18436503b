"""GET /metrics and /metrics/resource, in Prometheus' text format, under upstream's names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiphys.kubelet import labels
from tiphys.kubelet.node import machine
from tiphys.kubelet.runtime.service import RuntimeFailure
from tiphys.kubelet.server import answers
from tiphys.kubelet.server.stats import machine_cpu_ns
from tiphys.runtime.metrics import CONTENT_TYPE, Registry
from tiphys.wire.http import Response

if TYPE_CHECKING:
    from tiphys.kubelet.server.node import Node


class Metrics:
    def __init__(self, kubelet: Node) -> None:
        self._kubelet = kubelet
        self._registry: Registry | None = None

    async def answer(self, part: str) -> Response:
        if part == "":
            return Response(200, {"Content-Type": CONTENT_TYPE}, self._own())
        if part == "resource":
            try:
                return Response(200, {"Content-Type": CONTENT_TYPE}, (await self._resource()).encode())
            except RuntimeFailure as error:
                return answers.plain(500, error.raw)
        if part == "probes":
            return Response(200, {"Content-Type": CONTENT_TYPE}, self._probes().encode())
        return answers.text(404, "404 page not found")

    def _own(self) -> bytes:
        registry = self._registry = self._registry or Registry()
        pods = self._kubelet.workers
        running = sum(1 for uid in pods.known() if pods.could_run(uid))
        registry.gauge("kubelet_running_pods", "Number of pods that have a running pod sandbox").set(running)
        registry.gauge("kubelet_node_name", "The node's name. The count is always 1.", ("node",)).labels(
            self._kubelet.config.node_name
        ).set(1)
        registry.gauge("kubelet_working_pods", "Pods that the kubelet works on").set(len(pods.known()))
        return registry.expose()

    def _probes(self) -> str:
        lines = ["# TYPE prober_probe_total counter"]
        for (namespace, pod, container, kind, result), count in sorted(self._kubelet.probes.counts.items()):
            tags = f'container="{container}",namespace="{namespace}",pod="{pod}",probe_type="{kind}",result="{result}"'
            lines.append(f"prober_probe_total{{{tags}}} {count}")
        return "\n".join(lines) + "\n"

    async def _resource(self) -> str:
        """Use of processor and memory by container, pod and node."""
        found = await self._kubelet.runtime.list_container_stats()
        cpu = ["# TYPE container_cpu_usage_seconds_total counter"]
        memory = ["# TYPE container_memory_working_set_bytes gauge"]
        pod_cpu: dict[tuple[str, str], float] = {}
        pod_memory: dict[tuple[str, str], int] = {}
        for stats in found:
            if stats.timestamp <= 0:
                continue
            namespace, pod = stats.labels.get(labels.POD_NAMESPACE, ""), stats.labels.get(labels.POD_NAME, "")
            name = stats.labels.get(labels.CONTAINER_NAME, stats.name)
            tags, at = f'container="{name}",namespace="{namespace}",pod="{pod}"', int(stats.timestamp * 1000)
            cpu.append(f"container_cpu_usage_seconds_total{{{tags}}} {stats.cpu_ns / 1e9} {at}")
            memory.append(f"container_memory_working_set_bytes{{{tags}}} {stats.memory_working_set} {at}")
            key = (namespace, pod)
            pod_cpu[key] = pod_cpu.get(key, 0.0) + stats.cpu_ns / 1e9
            pod_memory[key] = pod_memory.get(key, 0) + stats.memory_working_set
        lines = [*cpu, *memory, "# TYPE node_cpu_usage_seconds_total counter"]
        lines.append(f"node_cpu_usage_seconds_total {machine_cpu_ns() / 1e9}")
        lines.append("# TYPE node_memory_working_set_bytes gauge")
        lines.append(f"node_memory_working_set_bytes {machine.memory_total() - machine.memory_available()}")
        lines.append("# TYPE pod_cpu_usage_seconds_total counter")
        lines += [f'pod_cpu_usage_seconds_total{{namespace="{n}",pod="{p}"}} {v}' for (n, p), v in pod_cpu.items()]
        lines.append("# TYPE pod_memory_working_set_bytes gauge")
        lines += [f'pod_memory_working_set_bytes{{namespace="{n}",pod="{p}"}} {v}' for (n, p), v in pod_memory.items()]
        lines += ["# TYPE resource_scrape_error gauge", "resource_scrape_error 0"]
        return "\n".join(lines) + "\n"
