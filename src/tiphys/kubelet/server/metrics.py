"""GET /metrics and what is below it, in Prometheus' text format, under upstream's names.

Source: https://kubernetes.io/docs/reference/instrumentation/node-metrics/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiphys.kubelet.runtime.service import RuntimeFailure
from tiphys.kubelet.server import answers
from tiphys.kubelet.server.exposition import cadvisor_metrics, resource_metrics
from tiphys.kubelet.server.snapshot import Snapshot
from tiphys.runtime.metrics import CONTENT_TYPE, Registry
from tiphys.wire.http import Response

if TYPE_CHECKING:
    from tiphys.kubelet.server.node import ServedNode


class KubeletMetrics:
    def __init__(self, kubelet: ServedNode) -> None:
        self._kubelet = kubelet
        self._registry: Registry | None = None

    async def answer(self, part: str) -> Response:
        if part == "":
            return Response(200, {"Content-Type": CONTENT_TYPE}, self._own())
        if part in ("resource", "cadvisor"):
            try:
                snapshot = await self._kubelet.snapshots.take()
            except RuntimeFailure as error:
                return answers.plain(500, error.raw)
            except OSError as error:
                return answers.plain(500, f"cannot measure the node: {error}")
            return Response(200, {"Content-Type": CONTENT_TYPE}, self._figures(part, snapshot).encode())
        if part == "probes":
            return Response(200, {"Content-Type": CONTENT_TYPE}, self._probes().encode())
        return answers.text(404, "404 page not found")

    def _make(self) -> Registry:
        registry = Registry()
        for collector in self._kubelet.collectors:
            registry.collectors.register(collector)
        return registry

    def _own(self) -> bytes:
        registry = self._registry = self._registry or self._make()
        pods = self._kubelet.workers
        running = sum(1 for uid in pods.known() if pods.could_run(uid))
        registry.gauge("kubelet_running_pods", "Number of pods that have a running pod sandbox").set(running)
        registry.gauge("kubelet_node_name", "The node's name. The count is always 1.", ("node",)).labels(
            self._kubelet.config.node_name
        ).set(1)
        containers = registry.gauge(
            "kubelet_running_containers", "Number of containers currently running", ("container_state",)
        )
        for state, number in self._kubelet.pleg.containers_by_state().items():
            containers.labels(state).set(number)
        registry.gauge("kubelet_working_pods", "Pods that the kubelet works on").set(len(pods.known()))
        return registry.expose()

    def _figures(self, part: str, snapshot: Snapshot) -> str:
        machine = self._kubelet.machine
        if part == "resource":
            return resource_metrics(snapshot)
        return cadvisor_metrics(snapshot, machine.kernel_version, machine.os_image, machine.cpus)

    def _probes(self) -> str:
        lines = ["# TYPE prober_probe_total counter"]
        for (namespace, pod, container, kind, result), count in sorted(self._kubelet.probes.counts.items()):
            tags = f'container="{container}",namespace="{namespace}",pod="{pod}",probe_type="{kind}",result="{result}"'
            lines.append(f"prober_probe_total{{{tags}}} {count}")
        return "\n".join(lines) + "\n"
