"""The persistent volume binder: what fits, what changes, and the lives of claims and volumes in a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tiphys.api.object import Object
from tiphys.api.volumes import matching
from tiphys.api.volumes.binding import volume_for
from tiphys.controllers.volumes.persistentvolumes import changes
from tiphys.testing import Cluster


def claim(size: str = "1Gi", *modes: str, name: str = "data", uid: str = "c1", **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default", "uid": uid},
        "spec": {"accessModes": list(modes or ["ReadWriteOnce"]), "resources": {"requests": {"storage": size}}, **spec},
    }


def volume(name: str, size: str = "1Gi", *modes: str, phase: str = "Available", **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {"name": name}},
        "spec": {
            "accessModes": list(modes or ["ReadWriteOnce"]),
            "capacity": {"storage": size},
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": f"/data/{name}"},
            **spec,
        },
        "status": {"phase": phase},
    }


def kept(name: str, **more: Any) -> Object:
    return {"claimRef": {"namespace": "default", "name": name, **more}}


# What fits


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        (claim("2Gi"), [volume("big", "9Gi"), volume("fits", "3Gi"), volume("small", "1Gi")], "fits"),
        (claim("1024Mi"), [volume("same", "1Gi")], "same"),
        (claim("9Gi"), [volume("small", "1Gi")], None),
        (claim(), [volume("taken", **kept("other", uid="x")), volume("free")], "free"),
        (claim(), [volume("a"), volume("mine", "50Gi", **kept("data"))], "mine"),
        (claim(), [volume("a", **kept("data", uid="earlier"))], None),
        (claim(), [volume("a", phase="Released"), volume("b", phase="Pending")], None),
        (claim(), [volume("two", "1Gi", "ReadWriteOnce", "ReadOnlyMany"), volume("one", "5Gi")], "one"),
        (claim("1Gi", "ReadWriteMany"), [volume("a")], None),
        (claim(storageClassName="fast"), [volume("a"), volume("b", storageClassName="fast")], "b"),
        (claim(volumeMode="Block"), [volume("a"), volume("b", volumeMode="Block")], "b"),
        (claim(selector={"matchLabels": {"name": "b"}}), [volume("a"), volume("b", "7Gi")], "b"),
        (claim(volumeAttributesClassName="x"), [volume("a")], None),
    ],
)
def test_the_best_volume(wanted: Object, offered: list[Object], chosen: str | None) -> None:
    found = matching.best(wanted, offered, delayed=False)
    assert (found and found["metadata"]["name"]) == chosen


def test_the_scheduler_chooses_where_binding_is_delayed() -> None:
    assert matching.best(claim(), [volume("a")], delayed=True) is None
    mine = volume("a", **kept("data", uid="c1"))
    assert matching.best(claim(), [mine], delayed=True) is mine


@pytest.mark.parametrize(
    ("asked", "trouble"),
    [
        (claim(), ""),
        (claim("2Gi"), "requested PV is too small"),
        (claim(storageClassName="fast"), "storageClassName does not match"),
        (claim(volumeAttributesClassName="x"), "volumeAttributesClassName does not match"),
        (claim(volumeMode="Block"), "incompatible volumeMode"),
        (claim("1Gi", "ReadWriteMany"), "incompatible accessMode"),
    ],
)
def test_a_volume_asked_for_by_name(asked: Object, trouble: str) -> None:
    assert matching.mismatch(volume("a"), asked) == trouble


def test_the_newest_default_class() -> None:
    def named(name: str, created: str, default: str = "true") -> Object:
        annotations = {"storageclass.kubernetes.io/is-default-class": default}
        return {"metadata": {"name": name, "creationTimestamp": created, "annotations": annotations}}

    classes = [named("b", "2026-01-02"), named("old", "2026-01-01"), named("a", "2026-01-02"), named("n", "2027", "no")]
    found = matching.default_class(classes)
    assert found is not None
    assert found["metadata"]["name"] == "a"
    assert matching.default_class([]) is None


# What changes


def test_binding_is_marked_and_undone() -> None:
    bound = volume_for(volume("a"), claim())
    assert bound is not None
    assert bound["spec"]["claimRef"]["uid"] == "c1"
    assert bound["metadata"]["annotations"] == {"pv.kubernetes.io/bound-by-controller": "yes"}
    assert volume_for(bound, claim()) is None
    assert "claimRef" not in changes.volume_without_claim(bound)["spec"]
    reserved = volume_for(volume("a", **kept("data")), claim())
    assert reserved is not None
    assert "annotations" not in reserved["metadata"]
    assert changes.volume_without_claim(reserved)["spec"]["claimRef"]["name"] == "data"
    assert "uid" not in changes.volume_without_claim(reserved)["spec"]["claimRef"]
    pointing = changes.claim_for(claim(), bound)
    assert pointing is not None
    assert pointing["spec"]["volumeName"] == "a"
    assert changes.claim_for(pointing, bound) is None


def test_the_capacity_is_taken_over_when_binding_only() -> None:
    bound = changes.claim_status({**claim(), "status": {"phase": "Pending"}}, "Bound", volume("a", "5Gi"))
    assert bound is not None
    assert bound["status"]["capacity"] == {"storage": "5Gi"}
    assert changes.claim_status(bound, "Bound", volume("a", "9Gi")) is None
    lost = changes.claim_status(bound, "Lost", None)
    assert lost is not None
    assert lost["status"] == {"phase": "Lost"}


@pytest.mark.parametrize(
    ("policy", "annotations", "source", "reason"),
    [
        ("Retain", {}, {}, None),
        ("Recycle", {}, {}, "VolumeFailedRecycle"),
        ("Delete", {}, {}, "VolumeFailedDelete"),
        ("Delete", {}, {"csi": {"driver": "d"}}, None),
        ("Delete", {changes.PROVISIONED_BY: "example.com/p"}, {}, None),
        ("Delete", {changes.PROVISIONED_BY: "kubernetes.io/glusterfs"}, {}, "VolumeFailedDelete"),
        ("Delete", {changes.MIGRATED_TO: "csi.example.com"}, {}, None),
        ("Other", {}, {}, "VolumeUnknownReclaimPolicy"),
    ],
)
def test_reclaiming(policy: str, annotations: Object, source: Object, reason: str | None) -> None:
    released = volume("a", persistentVolumeReclaimPolicy=policy, **source)
    released["metadata"]["annotations"] = annotations
    trouble = changes.reclaim_trouble(released)
    assert (trouble and trouble[0]) == reason


# In a cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=1) as cluster:
        yield cluster


def create(cluster: Cluster, obj: Object) -> None:
    wanted = {key: value for key, value in obj.items() if key != "status"}
    wanted["metadata"] = {key: value for key, value in obj["metadata"].items() if key != "uid"}
    cluster.create(wanted)


def phase(cluster: Cluster, kind: str, name: str) -> str:
    return str((cluster.get("v1", kind, name) or {}).get("status", {}).get("phase"))


def reasons(cluster: Cluster, kind: str) -> set[str]:
    found = cluster.list("v1", "Event", "")
    return {event["reason"] for event in found if event["involvedObject"]["kind"] == kind}


def test_a_claim_is_bound_and_its_volume_released(cluster: Cluster) -> None:
    create(cluster, claim("1Gi", storageClassName=""))
    cluster.wait_until(lambda: "FailedBinding" in reasons(cluster, "PersistentVolumeClaim"))
    create(cluster, volume("small", "1Gi"))
    create(cluster, volume("large", "5Gi"))
    cluster.wait_until(lambda: phase(cluster, "PersistentVolumeClaim", "data") == "Bound")
    bound = cluster.get("v1", "PersistentVolumeClaim", "data")
    assert bound is not None
    assert bound["spec"]["volumeName"] == "small"
    assert bound["status"]["capacity"] == {"storage": "1Gi"}
    assert phase(cluster, "PersistentVolume", "small") == "Bound"
    assert phase(cluster, "PersistentVolume", "large") == "Available"
    cluster.delete("v1", "PersistentVolumeClaim", "data")
    cluster.wait_until(lambda: phase(cluster, "PersistentVolume", "small") == "Released")
    cluster.delete("v1", "PersistentVolume", "small")
    cluster.wait_until(lambda: cluster.get("v1", "PersistentVolume", "small") is None)


def test_many_claims_share_many_volumes_without_a_quarrel(cluster: Cluster) -> None:
    for number in range(8):
        create(cluster, volume(f"v{number}", f"{number + 1}Gi"))
        create(cluster, claim("1Gi", name=f"c{number}", storageClassName=""))

    def all_bound() -> bool:
        return len(cluster.list("v1", "PersistentVolumeClaim", "default", phase="Bound")) == 8

    cluster.wait_until(all_bound)
    pairs = {
        found["metadata"]["name"]: found["spec"]["claimRef"]["name"] for found in cluster.list("v1", "PersistentVolume")
    }
    assert len(set(pairs.values())) == 8
    for found in cluster.list("v1", "PersistentVolumeClaim", "default"):
        assert pairs[found["spec"]["volumeName"]] == found["metadata"]["name"]


def test_a_lost_volume_is_told(cluster: Cluster) -> None:
    create(cluster, volume("a"))
    create(cluster, claim(storageClassName="", volumeName="a"))
    cluster.wait_until(lambda: phase(cluster, "PersistentVolumeClaim", "data") == "Bound")
    cluster.delete("v1", "PersistentVolume", "a")
    cluster.run_for(5)
    assert phase(cluster, "PersistentVolume", "a") == "Bound"  # protected while it is bound
    cluster.patch("v1", "PersistentVolume", "a", {"metadata": {"finalizers": None}})
    cluster.wait_until(lambda: phase(cluster, "PersistentVolumeClaim", "data") == "Lost")
    assert "ClaimLost" in reasons(cluster, "PersistentVolumeClaim")


def test_an_external_provisioner_is_asked(cluster: Cluster) -> None:
    meta = {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": meta}
    create(cluster, claim())
    cluster.run_for(1)
    cluster.create({**kind, "provisioner": "csi.example.com"})

    def asked() -> bool:
        found = cluster.get("v1", "PersistentVolumeClaim", "data") or {"metadata": {}}
        annotations = found["metadata"].get("annotations") or {}
        return annotations.get("volume.kubernetes.io/storage-provisioner") == "csi.example.com"

    cluster.wait_until(asked)
    cluster.wait_until(lambda: "ExternalProvisioning" in reasons(cluster, "PersistentVolumeClaim"))


def test_an_ephemeral_volume_gets_a_claim_that_goes_with_its_pod(cluster: Cluster) -> None:
    wanted = {"metadata": {"labels": {"a": "b"}}, "spec": claim(storageClassName="")["spec"]}
    spec = {
        "containers": [{"name": "c", "image": "example"}],
        "volumes": [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": wanted}}],
        "terminationGracePeriodSeconds": 0,
    }
    meta = {"name": "user", "namespace": "default"}
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    cluster.wait_until(lambda: cluster.get("v1", "PersistentVolumeClaim", "user-scratch"))
    made = cluster.get("v1", "PersistentVolumeClaim", "user-scratch")
    assert made is not None
    assert made["metadata"]["labels"] == {"a": "b"}
    assert made["metadata"]["ownerReferences"][0]["name"] == "user"
    cluster.delete("v1", "Pod", "user")
    cluster.wait_until(lambda: cluster.get("v1", "PersistentVolumeClaim", "user-scratch") is None)
