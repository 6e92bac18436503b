"""Tainted devices: whose pods go, and when."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.object import Object
from tiphys.controlkit.objects import timestamp
from tiphys.controllers.resourceclaim.devicetaints import end_of_toleration, evicting_taints
from tiphys.testing import Cluster

NOW = 1_767_225_600.0  # 2026-01-01
TAINT = {"key": "broken", "value": "yes", "effect": "NoExecute", "timeAdded": timestamp(NOW)}


def toleration(**fields: Any) -> Object:
    return {"key": "broken", "operator": "Exists", "effect": "NoExecute", **fields}


@pytest.mark.parametrize(
    ("tolerations", "end"),
    [
        ([], NOW),
        ([toleration()], None),
        ([toleration(tolerationSeconds=0)], NOW),
        ([toleration(tolerationSeconds=-5)], NOW),
        ([toleration(tolerationSeconds=60)], NOW + 60),
        ([toleration(tolerationSeconds=60), toleration(tolerationSeconds=30)], NOW + 30),
        ([toleration(tolerationSeconds=60), toleration()], None),
        ([toleration(key="another")], NOW),
        ([toleration(key="")], None),
        ([toleration(operator="Equal", value="yes")], None),
        ([toleration(operator="Equal", value="no")], NOW),
        ([toleration(operator="")], NOW),
        ([toleration(effect="")], NOW),
        ([toleration(effect="NoSchedule")], NOW),
    ],
)
def test_until_when_a_taint_is_tolerated(tolerations: list[Object], end: float | None) -> None:
    assert end_of_toleration(TAINT, tolerations) == end


def test_the_newest_generation_of_a_pool_says_what_is_tainted() -> None:
    kept = {**TAINT, "effect": "NoSchedule"}
    old = published("old", 1, {"name": "a", "taints": [TAINT]}, {"name": "b", "taints": [TAINT]})
    new = published("new", 2, {"name": "a", "taints": [kept]}, {"name": "c", "taints": [kept, TAINT]})
    assert evicting_taints([old, new]) == {"c": [TAINT]}
    assert evicting_taints([]) == {}


def published(name: str, generation: int, *devices: Object) -> Object:
    pool = {"name": "pool", "generation": generation, "resourceSliceCount": 1}
    spec = {"driver": "driver.example", "nodeName": "node-0", "pool": pool, "devices": list(devices)}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": name},
        "spec": spec,
    }


def run_pod(cluster: Cluster, name: str, device: str, tolerations: list[Object]) -> None:
    """A pod on the node whose claim has got a device."""
    kind = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim"}
    devices = {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}
    claim = cluster.create({**kind, "metadata": {"name": name}, "spec": {"devices": devices}})
    body = {
        "nodeName": "node-0",
        "containers": [{"name": "c", "image": "i"}],
        "resourceClaims": [{"name": "claim", "resourceClaimName": name}],
    }
    pod = cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body})
    result = {"request": "r", "driver": "driver.example", "pool": "pool", "device": device, "tolerations": tolerations}
    consumer = {"resource": "pods", "name": name, "uid": pod["metadata"]["uid"]}
    status = {"allocation": {"devices": {"results": [result]}}, "reservedFor": [consumer]}
    path = cluster.path("resource.k8s.io/v1", "ResourceClaim")
    cluster.run(cluster.client.update(path, {**claim, "status": status}, subresource="status"))


def test_pods_leave_tainted_devices_when_their_claims_tolerate_them_no_longer() -> None:
    with Cluster(nodes=1) as cluster:
        device = {"name": "good"}, {"name": "bad"}
        cluster.create(published("slice", 1, *device))
        run_pod(cluster, "healthy", "good", [])
        run_pod(cluster, "at-once", "bad", [])
        run_pod(cluster, "soon", "bad", [toleration(tolerationSeconds=60)])
        run_pod(cluster, "spared", "bad", [toleration(tolerationSeconds=600)])
        run_pod(cluster, "never", "bad", [toleration()])
        cluster.run_for(5)
        taint = {key: value for key, value in TAINT.items() if key != "timeAdded"}
        bad = {"name": "bad", "taints": [taint]}
        cluster.patch("resource.k8s.io/v1", "ResourceSlice", "slice", {"spec": {"devices": [device[0], bad]}})

        def left() -> set[str]:
            return {pod["metadata"]["name"] for pod in cluster.list("v1", "Pod", "default")}

        going = cluster.get("v1", "Pod", "at-once")
        cluster.wait_until(lambda: left() == {"healthy", "soon", "spared", "never"}, 40)
        assert going is not None
        assert [event["reason"] for event in cluster.events(going)].count("DeviceTaintManagerEviction") == 1
        cluster.wait_until(lambda: left() == {"healthy", "spared", "never"}, 90)
        cluster.patch("resource.k8s.io/v1", "ResourceSlice", "slice", {"spec": {"devices": list(device)}})
        cluster.run_for(700)
        assert left() == {"healthy", "spared", "never"}
        spared = cluster.get("v1", "Pod", "spared")
        assert spared is not None
        assert "Cancelling deletion" in [event["message"] for event in cluster.events(spared)]
