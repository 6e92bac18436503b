"""Provisioner, attacher, resizer and snapshotter against a driver: the lives of claims, volumes and snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.csi.memorydriver import NAME, MemoryDriver
from tiphys.api.object import Object
from tiphys.client.resources import VOLUME_ATTACHMENTS
from tiphys.csi.manager import DriverControllers, ManagerConfig
from tiphys.csi.provisioner import parameters, topology
from tiphys.csi.snapshots.resources import (
    SNAPSHOT_GROUP,
    VOLUME_SNAPSHOT_CLASSES,
    VOLUME_SNAPSHOT_CONTENTS,
    VOLUME_SNAPSHOTS,
)
from tiphys.testing import Cluster
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.stream import GrpcError

GIB = 1 << 30


@contextmanager
def running(driver: MemoryDriver, **config: Any) -> Iterator[Cluster]:
    with Cluster(nodes=1) as cluster:
        config = {"identity": "test"} | config
        cluster.start_controller(
            lambda context: DriverControllers(ManagerConfig(**config), context.client, driver, context.clock)
        )
        yield cluster


def storage_class(**more: Any) -> Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "fast"},
        "provisioner": NAME,
        "allowVolumeExpansion": True,
        **more,
    }


def claim(name: str = "data", size: str = "1Gi", **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "fast",
            "resources": {"requests": {"storage": size}},
            **spec,
        },
    }


def shown(cluster: Cluster, name: str = "data") -> Object:
    found = cluster.get("v1", "PersistentVolumeClaim", name)
    assert found is not None
    return found


def bound(cluster: Cluster, name: str = "data") -> Object:
    """The volume of a claim, once it has one."""
    cluster.wait_until(lambda: (shown(cluster, name).get("status") or {}).get("phase") == "Bound")
    volume = cluster.get("v1", "PersistentVolume", shown(cluster, name)["spec"]["volumeName"], namespace="")
    assert volume is not None
    return volume


def reasons(cluster: Cluster, obj: Object) -> list[str]:
    return [event["reason"] for event in cluster.events(obj)]


# The provisioner


def test_a_claim_gets_a_volume_and_takes_it_along() -> None:
    driver = MemoryDriver()
    with running(driver) as cluster:
        given = {"csi.storage.k8s.io/fstype": "xfs", "colour": "red"}
        cluster.create(storage_class(parameters=given, mountOptions=["noatime"]))
        made = cluster.create(claim())
        volume = bound(cluster)
        uid = made["metadata"]["uid"]
        assert volume["metadata"]["name"] == f"pvc-{uid}"
        assert volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"] == NAME
        assert "external-provisioner.volume.kubernetes.io/finalizer" in volume["metadata"]["finalizers"]
        assert volume["spec"]["csi"]["fsType"] == "xfs"
        assert volume["spec"]["csi"]["volumeHandle"] == f"handle-of-pvc-{uid}"
        assert volume["spec"]["mountOptions"] == ["noatime"]
        (request,) = driver.asked("CreateVolume")
        assert (request.name, dict(request.parameters)) == (f"pvc-{uid}", {"colour": "red"})
        assert request.volume_capabilities[0].mount.fs_type == "xfs"
        cluster.wait_until(lambda: "ProvisioningSucceeded" in reasons(cluster, made))
        cluster.delete("v1", "PersistentVolumeClaim", "data")
        cluster.wait_until(lambda: not cluster.list("v1", "PersistentVolume"))
        assert not driver.volumes


def test_a_volume_that_is_to_be_kept_is_kept() -> None:
    driver = MemoryDriver()
    with running(driver) as cluster:
        cluster.create(storage_class(reclaimPolicy="Retain"))
        cluster.create(claim())
        bound(cluster)
        cluster.delete("v1", "PersistentVolumeClaim", "data")
        cluster.run_for(30)
        (volume,) = cluster.list("v1", "PersistentVolume")
        assert volume["status"]["phase"] == "Released"
        assert driver.volumes


def test_what_fails_is_reported_and_tried_again() -> None:
    driver = MemoryDriver()
    driver.failures["CreateVolume"] = [GrpcError(StatusCode.INTERNAL, "no luck"), GrpcError(StatusCode.UNAVAILABLE, "")]
    driver.failures["DeleteVolume"] = [GrpcError(StatusCode.INTERNAL, "no luck")]
    with running(driver) as cluster:
        cluster.create(storage_class())
        made = cluster.create(claim())
        volume = bound(cluster)
        events = {event["reason"]: event.get("message") or event.get("note") for event in cluster.events(made)}
        assert events["ProvisioningFailed"].startswith('failed to provision volume with StorageClass "fast": rpc error')
        assert len({request.name for request in driver.asked("CreateVolume")}) == 1, "always the same volume"
        cluster.delete("v1", "PersistentVolumeClaim", "data")
        cluster.wait_until(lambda: not driver.volumes)
        assert "VolumeFailedDelete" in reasons(cluster, volume)


def test_a_claim_that_is_deleted_while_nobody_knows_leaves_no_volume_behind() -> None:
    driver = MemoryDriver()
    driver.failures["CreateVolume"] = [GrpcError(StatusCode.DEADLINE_EXCEEDED, "slow")] * 3
    with running(driver) as cluster:
        cluster.create(storage_class())
        cluster.create(claim())
        cluster.wait_until(lambda: driver.asked("CreateVolume"))
        cluster.delete("v1", "PersistentVolumeClaim", "data")
        cluster.wait_until(lambda: driver.asked("DeleteVolume"))
        assert not driver.volumes
        cluster.wait_until(lambda: not cluster.list("v1", "PersistentVolume"))


def test_a_clone_begins_with_the_others_data() -> None:
    driver = MemoryDriver()
    with running(driver) as cluster:
        cluster.create(storage_class())
        cluster.create(claim())
        origin = bound(cluster)
        source = {"kind": "PersistentVolumeClaim", "name": "data"}
        small = cluster.create(claim("small", "1Mi", dataSource=source))
        cluster.create(claim("clone", "2Gi", dataSource=source))
        bound(cluster, "clone")
        assert (
            driver.asked("CreateVolume")[-1].volume_content_source.volume.volume_id
            == (origin["spec"]["csi"]["volumeHandle"])
        )
        cluster.wait_until(lambda: "ProvisioningFailed" in reasons(cluster, small))


def add_node(cluster: Cluster, name: str, zone: str) -> None:
    node = cluster.add_node(name, labels={"zone": zone})
    assert node is not None
    drivers = [{"name": NAME, "nodeID": f"id-of-{name}", "topologyKeys": ["zone"]}]
    csi_node = {"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": name}}
    cluster.create({**csi_node, "spec": {"drivers": drivers}})


def pod(name: str, *claims: str, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": each, "persistentVolumeClaim": {"claimName": each}} for each in claims],
            **spec,
        },
    }


def test_a_volume_is_where_its_pod_is() -> None:
    driver = MemoryDriver(topology=True)
    with running(driver) as cluster:
        add_node(cluster, "a", "west")
        add_node(cluster, "b", "east")
        cluster.create(storage_class(volumeBindingMode="WaitForFirstConsumer"))
        cluster.create(claim())
        cluster.wait_until(lambda: cluster.list("storage.k8s.io/v1", "CSIStorageCapacity"))
        cluster.run_for(5)
        assert not driver.asked("CreateVolume"), "nobody has chosen a node"
        cluster.create(pod("p", "data", nodeSelector={"zone": "east"}))
        volume = bound(cluster)
        expressions = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"]
        assert expressions == [{"key": "zone", "operator": "In", "values": ["east"]}]
        places = [each["nodeTopology"] for each in cluster.list("storage.k8s.io/v1", "CSIStorageCapacity")]
        assert {"matchLabels": {"zone": "east"}} in places


def test_a_node_without_room_is_not_insisted_on() -> None:
    driver = MemoryDriver(topology=True)
    driver.failures["CreateVolume"] = [GrpcError(StatusCode.RESOURCE_EXHAUSTED, "full")]
    with running(driver) as cluster:
        add_node(cluster, "a", "west")
        cluster.create(storage_class(volumeBindingMode="WaitForFirstConsumer"))
        cluster.create(claim())
        cluster.create(pod("p", "data", nodeSelector={"zone": "west"}))
        bound(cluster)
        assert len(driver.asked("CreateVolume")) == 2


WEST, EAST = {"zone": "west"}, {"zone": "east"}


@pytest.mark.parametrize(
    ("selected", "allowed", "strict", "preferred"),
    [
        (None, [], False, [EAST, WEST]),
        (WEST, [], False, [WEST, EAST]),
        (WEST, [], True, [WEST]),
        (None, [WEST], False, [WEST]),
        (EAST, [EAST, WEST], False, [EAST, WEST]),
    ],
)
def test_where_a_volume_may_be(selected: Any, allowed: list[Any], strict: Any, preferred: list[Any]) -> None:
    asked = topology.requirement(selected=selected, everywhere=[WEST, EAST, WEST], allowed=allowed, strict=strict)
    assert asked is not None
    assert [each["segments"] for each in asked["preferred"]] == preferred


def test_a_node_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(topology.TopologyError, match="zone=west"):
        topology.requirement(selected=WEST, everywhere=[WEST, EAST], allowed=[EAST], strict=False)


CLAIM = {"metadata": {"name": "data", "namespace": "ns", "annotations": {"team": "blue"}}}


@pytest.mark.parametrize(
    ("name", "namespace", "found"),
    [
        ("", "", None),
        ("plain", "ns", ("ns", "plain")),
        ("${pvc.name}-${pv.name}", "${pvc.namespace}", ("ns", "data-pv")),
        ("${pvc.annotations['team']}", "ns", ("ns", "blue")),
        ("${pvc.annotations['none']}", "ns", "none"),
        ("x", "${pvc.annotations['team']}", "team"),
        ("half", "", "both must be specified"),
    ],
)
def test_secrets_of_a_class(name: str, namespace: str, found: Any) -> None:
    given = {
        f"csi.storage.k8s.io/node-stage-secret-{key}": text for key, text in (("name", name), ("namespace", namespace))
    }
    if isinstance(found, str):
        with pytest.raises(parameters.ParameterError, match=found):
            parameters.secret("node-stage", given, "pv", CLAIM)
    else:
        assert parameters.secret("node-stage", given, "pv", CLAIM) == found


def test_a_parameter_with_the_prefix_that_nobody_knows_is_refused() -> None:
    with pytest.raises(parameters.ParameterError, match=r"csi\.storage\.k8s\.io/colour"):
        parameters.for_driver({"csi.storage.k8s.io/colour": "red"})


# The attacher


def attachment(cluster: Cluster, volume: str, node: str) -> str:
    cluster.create(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "VolumeAttachment",
            "metadata": {"name": "at"},
            "spec": {"attacher": NAME, "nodeName": node, "source": {"persistentVolumeName": volume}},
        }
    )
    return "at"


def attachment_status(cluster: Cluster) -> Object:
    found = cluster.get("storage.k8s.io/v1", "VolumeAttachment", "at", namespace="")
    return (found or {}).get("status") or {}


def test_a_volume_is_attached_and_detached() -> None:
    driver = MemoryDriver()
    driver.failures["ControllerPublishVolume"] = [GrpcError(StatusCode.INTERNAL, "no luck")]
    driver.failures["ControllerUnpublishVolume"] = [GrpcError(StatusCode.INTERNAL, "no luck")]
    with running(driver) as cluster:
        add_node(cluster, "a", "west")
        cluster.create(storage_class())
        cluster.create(claim())
        volume = bound(cluster)
        attachment(cluster, volume["metadata"]["name"], "a")
        cluster.wait_until(
            lambda: "no luck" in (attachment_status(cluster).get("attachError") or {}).get("message", "")
        )
        assert attachment_status(cluster)["attachError"]["errorCode"] == StatusCode.INTERNAL
        cluster.wait_until(lambda: attachment_status(cluster).get("attached"))
        assert attachment_status(cluster)["attachmentMetadata"] == {"device": "sdx"}
        assert "attachError" not in attachment_status(cluster)
        assert driver.published == {(volume["spec"]["csi"]["volumeHandle"], "id-of-a")}
        cluster.delete("v1", "PersistentVolumeClaim", "data")
        cluster.run_for(30)
        assert driver.volumes, "what is attached is not deleted"
        cluster.run(cluster.client.delete(VOLUME_ATTACHMENTS, "at"))
        cluster.wait_until(lambda: not driver.published)
        cluster.wait_until(lambda: not cluster.list("v1", "PersistentVolume"))


def test_a_driver_that_attaches_nothing_is_not_asked() -> None:
    driver = MemoryDriver(capabilities=("CREATE_DELETE_VOLUME",))
    with running(driver) as cluster:
        attachment(cluster, "any", "a")
        cluster.wait_until(lambda: attachment_status(cluster).get("attached"))
        assert not driver.published


# The resizer


@pytest.mark.parametrize("by_node", [False, True])
def test_a_volume_grows(by_node: Any) -> None:
    driver = MemoryDriver(node_expansion=by_node)
    with running(driver) as cluster:
        cluster.create(storage_class())
        made = cluster.create(claim())
        bound(cluster)
        more = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
        cluster.patch("v1", "PersistentVolumeClaim", "data", more)
        cluster.wait_until(lambda: bound(cluster)["spec"]["capacity"]["storage"] == "2Gi")
        if not by_node:
            cluster.wait_until(lambda: shown(cluster)["status"]["capacity"]["storage"] == "2Gi")
            assert not shown(cluster)["status"].get("conditions")
            cluster.wait_until(lambda: "VolumeResizeSuccessful" in reasons(cluster, made))
            return
        cluster.wait_until(lambda: "FileSystemResizeRequired" in reasons(cluster, made))
        status = shown(cluster)["status"]
        assert status["capacity"]["storage"] == "1Gi"
        assert status["allocatedResourceStatuses"] == {"storage": "NodeResizePending"}
        assert [each["type"] for each in status["conditions"]] == ["FileSystemResizePending"]
        assert len(driver.asked("ControllerExpandVolume")) == 1


def test_growth_that_cannot_be_says_so() -> None:
    driver = MemoryDriver()
    driver.failures["ControllerExpandVolume"] = [GrpcError(StatusCode.OUT_OF_RANGE, "too much")] * 99
    with running(driver) as cluster:
        cluster.create(storage_class())
        made = cluster.create(claim())
        bound(cluster)
        more = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
        cluster.patch("v1", "PersistentVolumeClaim", "data", more)
        cluster.wait_until(lambda: "VolumeResizeFailed" in reasons(cluster, made))
        cluster.wait_until(
            lambda: (
                (shown(cluster)["status"].get("allocatedResourceStatuses") or {}).get("storage")
                == "ControllerResizeInfeasible"
            )
        )


def test_a_volume_gets_other_attributes() -> None:
    driver = MemoryDriver()
    with running(driver) as cluster:
        cluster.create(storage_class())
        for name in ("silver", "gold"):
            attributes = {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "VolumeAttributesClass",
                "metadata": {"name": name},
            }
            cluster.create({**attributes, "driverName": NAME, "parameters": {"speed": name}})
        cluster.create(claim(volumeAttributesClassName="silver"))
        volume = bound(cluster)
        assert volume["spec"]["volumeAttributesClassName"] == "silver"
        assert dict(driver.asked("CreateVolume")[0].mutable_parameters) == {"speed": "silver"}
        cluster.patch("v1", "PersistentVolumeClaim", "data", {"spec": {"volumeAttributesClassName": "gold"}})
        cluster.wait_until(lambda: shown(cluster)["status"].get("currentVolumeAttributesClassName") == "gold")
        assert dict(driver.asked("ControllerModifyVolume")[0].mutable_parameters) == {"speed": "gold"}
        assert "modifyVolumeStatus" not in shown(cluster)["status"]


# The snapshotter


def crd(kind: str, scope: str) -> Object:
    plural = f"{kind.lower()}{'es' if kind.endswith('s') else 's'}"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{SNAPSHOT_GROUP}",
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-csi/external-snapshotter"},
        },
        "spec": {
            "group": SNAPSHOT_GROUP,
            "names": {"kind": kind, "plural": plural, "listKind": f"{kind}List", "singular": kind.lower()},
            "scope": scope,
            "versions": [{**version, "subresources": {"status": {}}}],
        },
    }


def test_a_snapshot_is_taken_restored_and_removed() -> None:
    driver = MemoryDriver()
    with running(driver) as cluster:
        api = f"{SNAPSHOT_GROUP}/v1"
        for kind, scope in (
            ("VolumeSnapshot", "Namespaced"),
            ("VolumeSnapshotContent", "Cluster"),
            ("VolumeSnapshotClass", "Cluster"),
        ):
            cluster.create(crd(kind, scope))
        cluster.create(storage_class())
        cluster.create(claim())
        bound(cluster)
        cluster.run_for(30)  # the kinds are looked for now and then
        default = {"snapshot.storage.kubernetes.io/is-default-class": "true"}
        snapshot_class = {"apiVersion": api, "kind": "VolumeSnapshotClass", "driver": NAME, "deletionPolicy": "Delete"}
        snapshot_class["metadata"] = {"name": "s", "annotations": default}
        cluster.run(cluster.client.create(VOLUME_SNAPSHOT_CLASSES, snapshot_class))
        snapshot = {"apiVersion": api, "kind": "VolumeSnapshot", "metadata": {"name": "then", "namespace": "default"}}
        snapshot["spec"] = {"source": {"persistentVolumeClaimName": "data"}}
        driver.failures["CreateSnapshot"] = [GrpcError(StatusCode.INTERNAL, "no luck")]
        cluster.run(cluster.client.create(VOLUME_SNAPSHOTS, snapshot))

        def present() -> list[Object]:
            found: list[Object] = cluster.run(cluster.client.list(VOLUME_SNAPSHOTS))["items"]
            return found

        def status() -> Object:
            return (present()[0] if present() else {}).get("status") or {}

        cluster.wait_until(lambda: status().get("error"))
        cluster.wait_until(lambda: status().get("readyToUse"))
        assert status()["restoreSize"] == "1Gi"
        assert status()["creationTime"] == "2023-11-14T22:13:20Z"
        restored = {"apiGroup": SNAPSHOT_GROUP, "kind": "VolumeSnapshot", "name": "then"}
        cluster.create(claim("again", dataSource=restored))
        bound(cluster, "again")
        (taken,) = driver.snapshots
        assert driver.asked("CreateVolume")[-1].volume_content_source.snapshot.snapshot_id == taken
        cluster.run(cluster.client.delete(VOLUME_SNAPSHOTS, "then", "default"))
        cluster.wait_until(lambda: not driver.snapshots)
        cluster.wait_until(lambda: not present())
        assert not cluster.run(cluster.client.list(VOLUME_SNAPSHOT_CONTENTS))["items"]
