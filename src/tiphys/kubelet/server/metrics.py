"""GET /metrics and what is below it, in Prometheus' text format, under upstream's names.

Source: https://kubernetes.io/docs/reference/instrumentation/node-metrics/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tiphys.kubelet.node.storage import VolumeUse
from tiphys.kubelet.runtime.service import RuntimeFailure
from tiphys.kubelet.server import answers
from tiphys.kubelet.server.exposition import cadvisor_metrics, resource_metrics
from tiphys.kubelet.server.snapshot import Snapshot
from tiphys.kubelet.volumes.csi.figures import ClaimUse
from tiphys.runtime.metrics import CONTENT_TYPE, Registry
from tiphys.wire.http import Response

if TYPE_CHECKING:
    from tiphys.kubelet.server.node import ServedNode


_CLAIM_FIGURES: tuple[tuple[str, str, Callable[[VolumeUse], int]], ...] = (
    ("kubelet_volume_stats_capacity_bytes", "Capacity in bytes of the volume", lambda use: use.filesystem.capacity),
    (
        "kubelet_volume_stats_available_bytes",
        "Number of available bytes in the volume",
        lambda use: use.filesystem.available,
    ),
    ("kubelet_volume_stats_used_bytes", "Number of used bytes in the volume", lambda use: use.use.bytes),
    ("kubelet_volume_stats_inodes", "Maximum number of inodes in the volume", lambda use: use.filesystem.inodes),
    ("kubelet_volume_stats_inodes_free", "Number of free inodes in the volume", lambda use: use.filesystem.inodes_free),
    ("kubelet_volume_stats_inodes_used", "Number of used inodes in the volume", lambda use: use.use.inodes),
)


def claim_metrics(registry: Registry, uses: Sequence[ClaimUse]) -> None:
    """Figures of claims by namespace and name; those that no pod has any more go."""
    for name, help, figure in _CLAIM_FIGURES:
        gauge = registry.gauge(name, help, ("namespace", "persistentvolumeclaim"))
        gauge.clear()
        for each in uses:
            if each.of.claim is not None:
                gauge.set(figure(each.use), *each.of.claim)


class KubeletMetrics:
    def __init__(self, kubelet: ServedNode) -> None:
        self._kubelet = kubelet
        self._registry: Registry | None = None

    async def answer(self, part: str) -> Response:
        """The exposition of ``/metrics`` or of one of its parts; 404 for a part that is not known."""
        if part == "":
            uses = await self._kubelet.volumes.claims_use()
            return Response(
                200, {"Content-Type": CONTENT_TYPE}, self._own([use for each in uses.values() for use in each])
            )
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
        return Registry(*self._kubelet.collectors)

    def _own(self, uses: Sequence[ClaimUse]) -> bytes:
        registry = self._registry = self._registry or self._make()
        claim_metrics(registry, uses)
        pods = self._kubelet.workers
        running = sum(1 for uid in pods.known() if pods.could_run(uid))
        registry.gauge("kubelet_running_pods", "Number of pods that have a running pod sandbox").set(running)
        registry.gauge("kubelet_node_name", "The node's name. The count is always 1.", ("node",)).set(
            1, self._kubelet.config.node_name
        )
        containers = registry.gauge(
            "kubelet_running_containers", "Number of containers currently running", ("container_state",)
        )
        containers.clear()
        for state, number in self._kubelet.pleg.containers_by_state().items():
            containers.set(number, state)
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
