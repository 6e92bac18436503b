"""What the kubelet's /metrics says of its own work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kubelet.world import World, container, play, pod
from tiphys.kubelet.figures import RuntimeOperations
from tiphys.kubelet.runtime.cri import operation_name
from tiphys.kubelet.server.metrics import KubeletMetrics
from tiphys.runtime.metrics import Registry


def value(text: str, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else -1.0


def test_a_pod_that_starts_and_one_that_is_evicted_are_counted(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        metrics = KubeletMetrics(world.kubelet)
        text = (await metrics.answer("")).body.decode()
        assert value(text, "kubelet_pod_start_duration_seconds_count") == 0
        world.add(pod("web", container("main")))
        await world.until(lambda: world.phase("web") == "Running")
        await world.kubelet.pleg.relist()
        world.kubelet._evict(world.api.pod("web"), "no room", signal="memory.available", disrupted=True)
        text = (await metrics.answer("")).body.decode()
        assert value(text, "kubelet_pod_start_duration_seconds_count") == 1
        assert value(text, 'kubelet_pod_worker_duration_seconds_count{operation_type="create"}') == 1
        assert value(text, 'kubelet_pod_worker_duration_seconds_count{operation_type="sync"}') >= 1
        assert value(text, "kubelet_pleg_relist_duration_seconds_count") >= 1
        assert value(text, 'kubelet_running_containers{container_state="running"}') == 1
        assert value(text, 'kubelet_evictions_total{eviction_signal="memory.available"}') == 1
        assert 'rest_client_requests_total{code="200",host="",method="GET"}' in text

    play(tmp_path, scene)


def test_calls_of_the_runtime_are_counted_with_their_errors() -> None:
    operations = RuntimeOperations()
    with operations.call("version"):
        pass
    with pytest.raises(OSError, match="gone"), operations.call("version"):
        raise OSError("gone")
    registry = Registry(operations)
    text = registry.expose().decode()
    assert value(text, 'kubelet_runtime_operations_total{operation_type="version"}') == 2
    assert value(text, 'kubelet_runtime_operations_errors_total{operation_type="version"}') == 1
    assert value(text, 'kubelet_runtime_operations_duration_seconds_count{operation_type="version"}') == 2


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("RunPodSandbox", "run_podsandbox"),
        ("ListPodSandbox", "list_podsandbox"),
        ("PodSandboxStatus", "podsandbox_status"),
        ("CreateContainer", "create_container"),
        ("UpdateContainerResources", "update_container"),
        ("ReopenContainerLog", "reopen_container_log"),
        ("ImageFsInfo", "image_fs_info"),
        ("UpdateRuntimeConfig", "update_runtime_config"),
    ],
)
def test_operations_have_upstreams_names(method: str, name: str) -> None:
    assert operation_name(method) == name
