"""The attach/detach controller: what is decided about a volume, and the lives of attachments in a cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tiphys.api.object import Object
from tiphys.api.volumes.attachments import attachment_name, unique_volume_name
from tiphys.controllers.volumes.attachdetach.plan import (
    MAX_WAIT_FOR_UNMOUNT,
    Attachment,
    Detachment,
    NodeState,
    Plan,
    make_plan,
)
from tiphys.testing import Cluster

WELL = NodeState(ready=True, out_of_service=False, mounted=False)
USING, DEAD = replace(WELL, mounted=True), replace(WELL, ready=False, mounted=True)
OUT = replace(DEAD, out_of_service=True)
LATE = MAX_WAIT_FOR_UNMOUNT + 1
HERE, LEAVING = Attachment(attached=True), Attachment(attached=True, leaving=True)


def plan(
    wanted: set[str],
    attachments: dict[str, Attachment],
    state: NodeState = WELL,
    waited: float = 0.0,
    **more: Any,
) -> Plan:
    nodes = dict.fromkeys(attachments, state)
    times = dict.fromkeys(attachments.keys() - wanted, waited)
    options = {"exclusive": True} | more
    return make_plan(wanted=wanted, attachments=attachments, nodes=nodes, unwanted_for=times, **options)


@pytest.mark.parametrize(
    ("case", "decided"),
    [
        (plan(set(), {}), Plan()),
        (plan({"a"}, {}), Plan(attach=("a",))),
        (plan({"a"}, {"a": HERE}), Plan()),
        # One node after the other, unless the volume may be on several.
        (plan({"a", "b"}, {}), Plan(attach=("a",), blocked=("b",))),
        (plan({"a", "b"}, {"a": HERE}), Plan(blocked=("b",))),
        (plan({"a", "b"}, {"a": HERE}, exclusive=False), Plan(attach=("b",))),
        (plan({"b"}, {"a": LEAVING}), Plan(blocked=("b",))),
        (plan({"b"}, {"a": HERE}), Plan(detach=(Detachment("a", verify=True),), blocked=("b",))),
        # What is mounted stays until it is unmounted, or its node has been dead for long, or is out of service.
        (plan(set(), {"a": HERE}), Plan(detach=(Detachment("a", verify=True),))),
        (plan(set(), {"a": LEAVING}), Plan()),
        (plan(set(), {"a": HERE}, USING, 10), Plan(again=MAX_WAIT_FOR_UNMOUNT - 10)),
        (plan(set(), {"a": HERE}, USING, LATE), Plan()),
        (plan(set(), {"a": HERE}, DEAD, 10), Plan(again=MAX_WAIT_FOR_UNMOUNT - 10)),
        (plan(set(), {"a": HERE}, DEAD, LATE), Plan(detach=(Detachment("a", verify=False, reason="timeout"),))),
        (plan(set(), {"a": HERE}, DEAD, LATE, by_timeout=False), Plan()),
        (plan(set(), {"a": HERE}, OUT), Plan(detach=(Detachment("a", verify=False, reason="out-of-service"),))),
    ],
)
def test_the_plan(case: Plan, decided: Plan) -> None:
    assert case == decided


VOLUME = unique_volume_name("driver.example", "handle")


def volume(**spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "pv"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "csi": {"driver": "driver.example", "volumeHandle": "handle"},
            "claimRef": {"namespace": "default", "name": "data"},
            **spec,
        },
    }


CLAIM: Object = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "data", "namespace": "default"},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "",
        "resources": {"requests": {"storage": "1Gi"}},
        "volumeName": "pv",
    },
}


def pod(name: str, node: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}],
        },
    }


def add_nodes(cluster: Cluster, *names: str) -> None:
    """Nodes that leave attachments to the controller, as kubelets' do."""
    managed = {"metadata": {"annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}}}
    for name in names:
        cluster.add_node(name)
        cluster.wait_until(lambda name=name: cluster.get("v1", "Node", name, namespace=""))
        cluster.patch("v1", "Node", name, managed, namespace="")


def attachments(cluster: Cluster) -> dict[str, Object]:
    listed = cluster.list("storage.k8s.io/v1", "VolumeAttachment")
    return {each["spec"]["nodeName"]: each for each in listed}


def set_attached(cluster: Cluster, node: str) -> None:
    name = attachment_name("driver.example", "handle", node)
    path = cluster.path("storage.k8s.io/v1", "VolumeAttachment")
    work = cluster.client.patch(path, name, {"status": {"attached": True}}, subresource="status")
    cluster.run(work)


def use(cluster: Cluster, node: str, *volumes: str) -> None:
    """What a kubelet reports."""
    status = {"status": {"volumesInUse": list(volumes) or None}}
    cluster.run(cluster.client.patch(cluster.path("v1", "Node"), node, status, subresource="status"))


def attached(cluster: Cluster, node: str) -> list[str]:
    shown = cluster.get("v1", "Node", node)
    assert shown is not None
    return [each["name"] for each in shown["status"].get("volumesAttached") or []]


def reasons(cluster: Cluster, name: str) -> list[str]:
    obj = cluster.get("v1", "Pod", name)
    return [event["reason"] for event in cluster.events(obj)] if obj else []


def test_a_volume_moves_with_its_pod() -> None:
    first, second = "first", "second"
    with Cluster(nodes=0) as cluster:
        add_nodes(cluster, first, second)
        for obj in (volume(), CLAIM, pod("p", first)):
            cluster.create(obj)
        cluster.wait_until(lambda: first in attachments(cluster))
        assert attached(cluster, first) == []
        set_attached(cluster, first)
        cluster.wait_until(lambda: attached(cluster, first) == [VOLUME])
        cluster.wait_until(lambda: "SuccessfulAttachVolume" in reasons(cluster, "p"))
        use(cluster, first, VOLUME)
        cluster.create(pod("q", second))
        cluster.wait_until(lambda: "FailedAttachVolume" in reasons(cluster, "q"))
        cluster.delete("v1", "Pod", "p")
        cluster.run_for(30)
        assert set(attachments(cluster)) == {first}, "it is mounted still"
        use(cluster, first)
        cluster.wait_until(lambda: set(attachments(cluster)) == {second})
        assert attached(cluster, first) == []


def test_a_volume_is_taken_from_a_node_that_is_out_of_service() -> None:
    first, second = "first", "second"
    with Cluster(nodes=0) as cluster:
        add_nodes(cluster, first, second)
        for obj in (volume(), CLAIM, pod("p", first)):
            cluster.create(obj)
        cluster.wait_until(lambda: first in attachments(cluster))
        set_attached(cluster, first)
        use(cluster, first, VOLUME)
        cluster.stop_node(first)
        taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
        cluster.patch("v1", "Node", first, {"spec": {"taints": [taint]}}, namespace="")
        cluster.create(pod("q", second))
        cluster.wait_until(lambda: set(attachments(cluster)) == {second})


def test_a_driver_without_attachments_gets_none() -> None:
    node = "first"
    with Cluster(nodes=0) as cluster:
        add_nodes(cluster, node)
        driver = {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "driver.example"}}
        for obj in ({**driver, "spec": {"attachRequired": False}}, volume(), CLAIM, pod("p", node)):
            cluster.create(obj)
        cluster.run_for(10)
        assert not attachments(cluster)
