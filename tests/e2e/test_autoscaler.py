"""`tiphys up --addons autoscaler`: a pod that waits for room gets a node, which goes when it is empty again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WANTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: large}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: large}}}}
  template:
    metadata: {{labels: {{app: large}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: tiphys.local/demo:1
        command: [sleep, "100000"]
        resources: {{requests: {{cpu: {cpu}m}}}}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machine]:
    with new_machine("tiphys-scale") as made:
        words = ("--addons", "autoscaler", "--autoscaler-nodes", "0:2", "--autoscaler-idle", "15s")
        made.tiphys("up", *words, "--bridge", "tiphysscale", "--without", "metrics-server", timeout=180)
        yield made


def nodes(cluster: Machine) -> list[str]:
    return [node["metadata"]["name"] for node in cluster.get("nodes")["items"]]


def test_a_node_comes_for_pods_that_wait_and_goes_when_it_is_empty(cluster: Machine) -> None:
    assert cluster.components()["cluster-autoscaler"]["state"] == "running"
    cluster.tiphys("demo", timeout=150)  # its image
    most = 700 * (os.cpu_count() or 1)  # one to a node
    cluster.apply(WANTS.format(replicas=2, cpu=most))
    made = wait_for(lambda: [name for name in nodes(cluster) if name.startswith("auto-")], 120, "a node")
    assert made == ["auto-1"]

    def where() -> set[str]:
        pods = cluster.get("pods", "-l", "app=large")["items"]
        return {pod["spec"].get("nodeName", "") for pod in pods}

    wait_for(lambda: "auto-1" in where() and "" not in where(), 90, "that both have a node")
    events = json.loads(cluster.kubectl("get", "events", "-o", "json"))["items"]
    said = [event["message"] for event in events if event["reason"] == "TriggeredScaleUp"]
    assert said == ["pod triggered scale-up: [{auto 0->1 (max: 2)}]"]

    cluster.kubectl("scale", "deployment", "large", "--replicas=0")
    wait_for(lambda: "auto-1" not in nodes(cluster), 180, "that the empty node goes")
    assert "auto-1" not in cluster.tool("node", "--data-dir", cluster.folder / "data", "list").stdout
