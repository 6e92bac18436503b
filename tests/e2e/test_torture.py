"""A node whose kubelet and containerd are killed under churn, and one that reboots: what ran runs, nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine
from tiphys.cluster import lifecycle
from tiphys.cluster.processes import cgroups_of, end_processes, traces
from tiphys.cluster.settings import Settings
from tiphys.runtime.system import mounts

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
IMAGE = "tiphys.local/demo:1"


@pytest.fixture
def cluster() -> Iterator[Machine]:
    if os.geteuid() != 0 or shutil.which("kubectl") is None:
        pytest.skip("end-to-end tests start containers and need kubectl")
    with new_machine("torture") as machine:
        machine.tiphys("up", timeout=240)
        yield machine


def test_kubelet_and_containerd_are_killed_under_churn(cluster: Machine) -> None:
    of = "kubelet,kubelet,kubelet,kubelet,containerd"
    done = cluster.tiphys("torture", "--kills", "20", "--of", of, check=False, timeout=900)
    print(done.stdout)
    assert done.returncode == 0, done.stdout


WORKLOADS = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: c, image: {IMAGE}, command: [sleep, "100000"]}}]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 16Mi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: keeper}}
spec:
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}, {{name: scratch, emptyDir: {{}}}}]
  containers:
  - name: c
    image: {IMAGE}
    command: [sh, -c, "date >> /data/starts; date >> /scratch/starts; sleep 100000"]
    volumeMounts: [{{name: data, mountPath: /data}}, {{name: scratch, mountPath: /scratch}}]
"""


def reboot(cluster: Machine) -> None:
    """What a reboot does: all processes of the cluster die at once, and what the kernel and /run held is gone."""
    settings = Settings.load(cluster.folder / "data")
    assert settings is not None
    ours = traces(settings.run_dir / "containerd", settings.kubelet_dir)
    components = [state["pid"] for state in lifecycle.component_states(settings).values() if state["pid"]]
    for pid in (lifecycle.supervisor_pid(settings), *components):
        os.kill(pid, signal.SIGKILL)
    assert end_processes(ours) == []
    for folder in (settings.run_dir, settings.data_dir):
        assert mounts.unmount_below(folder) == []
    for place in sorted(cgroups_of(ours.owners), reverse=True):
        place.rmdir()
    shutil.rmtree(settings.run_dir)
    links = cluster.run("ip", "-j", "link", "show", "type", "veth").stdout
    for link in json.loads(links or "[]"):
        if link["ifname"].startswith("veth"):
            cluster.run("ip", "link", "delete", link["ifname"], check=False)


def test_a_rebooted_node_comes_back(cluster: Machine) -> None:
    def all_ready() -> Any:
        pods = cluster.get("pods")["items"]
        ready = [p for p in pods if any(c.get("ready") for c in p["status"].get("containerStatuses") or [])]
        return pods if len(ready) == len(pods) == 4 else None

    cluster.apply(WORKLOADS)
    before = wait_for(all_ready, 120, "pods")
    reboot(cluster)
    cluster.tiphys("up", timeout=240)  # as the unit of systemd does

    def came_back() -> Any:
        pods = all_ready()
        restarted = pods and all(p["status"]["containerStatuses"][0]["restartCount"] >= 1 for p in pods)
        return pods if restarted else None

    after = wait_for(came_back, 180, "pods after the reboot")
    assert {p["metadata"]["uid"] for p in after} == {p["metadata"]["uid"] for p in before}
    assert len(cluster.kubectl("exec", "keeper", "--", "cat", "/data/starts").splitlines()) == 2
    assert len(cluster.kubectl("exec", "keeper", "--", "cat", "/scratch/starts").splitlines()) == 2
    settings = Settings.load(cluster.folder / "data")
    assert settings is not None
    networks = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{settings.run_dir}" in line]
    assert sum("/netns/" in line for line in networks) == 4
