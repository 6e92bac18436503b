"""Claims of the default StorageClass on a real cluster: data outlives pods, the kubelet and the node's processes.

The tests of this file run in order, on one cluster of their own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.csi.attachingdriver import NAME as ATTACHING
from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine
from tiphys.cluster.images import DEMO_IMAGE
from tiphys.csi.local.command import has_loops
from tiphys.runtime.system.capabilities import CAP_SYS_RESOURCE, has_capability
from tiphys.runtime.system.mounts import mount_points

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0 or not has_loops(), reason="volumes with a limit need root and loop devices"),
]

CONTAINER = f"""
      - name: main
        image: {DEMO_IMAGE}
        command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 1; done"]"""

DATABASE = f"""
apiVersion: v1
kind: Service
metadata: {{name: db}}
spec: {{clusterIP: None, selector: {{app: db}}, ports: [{{port: 80}}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db}}
spec:
  serviceName: db
  replicas: 2
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app: db}}}}
  template:
    metadata: {{labels: {{app: db}}}}
    spec:
      securityContext: {{fsGroup: 4321}}
      containers:{CONTAINER}
        volumeMounts: [{{name: data, mountPath: /data}}]
  volumeClaimTemplates:
  - metadata: {{name: data}}
    spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 64Mi}}}}}}
"""

CRDS = "\n---\n".join(
    f"""
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: {plural}.snapshot.storage.k8s.io
  annotations: {{api-approved.kubernetes.io: "https://github.com/kubernetes-csi/external-snapshotter"}}
spec:
  group: snapshot.storage.k8s.io
  scope: {scope}
  names: {{kind: {kind}, plural: {plural}, singular: {kind.lower()}, listKind: {kind}List}}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {{status: {{}}}}
    schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}
"""
    for kind, plural, scope in (
        ("VolumeSnapshot", "volumesnapshots", "Namespaced"),
        ("VolumeSnapshotContent", "volumesnapshotcontents", "Cluster"),
        ("VolumeSnapshotClass", "volumesnapshotclasses", "Cluster"),
    )
)

SNAPSHOT = """
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshotClass
metadata: {name: local}
driver: local.tiphys
deletionPolicy: Delete
---
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshot
metadata: {name: then}
spec: {volumeSnapshotClassName: local, source: {persistentVolumeClaimName: data-db-0}}
"""

RESTORED = f"""
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: restored}}
spec:
  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: 64Mi}}}}
  dataSource: {{apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: then}}
---
apiVersion: v1
kind: Pod
metadata: {{name: restored}}
spec:
      terminationGracePeriodSeconds: 1
      containers:{CONTAINER}
        volumeMounts: [{{name: data, mountPath: /data}}, {{name: inline, mountPath: /inline}}]
      volumes:
      - {{name: data, persistentVolumeClaim: {{claimName: restored}}}}
      - {{name: inline, csi: {{driver: local.tiphys, volumeAttributes: {{size: 32Mi}}}}}}
"""

SCRATCH = f"""
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: raw}}
spec: {{accessModes: [ReadWriteOnce], volumeMode: Block, resources: {{requests: {{storage: 32Mi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: scratch}}
spec:
      containers:{CONTAINER}
        volumeMounts:
        - {{name: own, mountPath: /own}}
        - {{name: own, mountPath: /part, subPath: a/b}}
        volumeDevices: [{{name: raw, devicePath: /dev/raw}}]
      volumes:
      - name: own
        ephemeral:
          volumeClaimTemplate:
            spec: {{accessModes: [ReadWriteOncePod], resources: {{requests: {{storage: 32Mi}}}}}}
      - {{name: raw, persistentVolumeClaim: {{claimName: raw}}}}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machine]:
    with new_machine("tiphys-storage") as made:
        made.tiphys("up", timeout=180)
        yield made


def is_ready(pod: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or [])


def wait_ready(cluster: Machine, *names: str) -> dict[str, str]:
    """Uids by name, once all are ready."""

    def uids() -> dict[str, str] | None:
        pods = {p["metadata"]["name"]: p for p in cluster.get("pods")["items"] if not _ends(p)}
        ready = all(name in pods and is_ready(pods[name]) for name in names)
        return {name: pods[name]["metadata"]["uid"] for name in names} if ready else None

    uids_by_name: dict[str, str] = wait_for(uids, what=f"that {names} are ready")
    return uids_by_name


def _ends(pod: dict[str, Any]) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def inside(cluster: Machine, pod: str, script: str) -> str:
    return cluster.kubectl("exec", pod, "--", "sh", "-c", script).strip()


def our_mounts(cluster: Machine) -> list[str]:
    return [path for path in mount_points() if path.startswith(str(cluster.folder)) and "csi" in path]


def test_a_stateful_set_gets_a_volume_for_each_pod(cluster: Machine) -> None:
    cluster.apply(DATABASE)
    wait_ready(cluster, "db-0", "db-1")
    for pod in ("db-0", "db-1"):
        assert inside(cluster, pod, "echo $HOSTNAME > /data/name; stat -c %g /data") == "4321"
    assert (
        "No space left"
        in cluster.run(
            *("kubectl", "exec", "db-1", "--", "dd", "if=/dev/zero", "of=/data/much", "bs=1M", "count=80"), check=False
        ).stderr
    )


def test_the_data_outlives_the_pod(cluster: Machine) -> None:
    before = wait_ready(cluster, "db-0")
    cluster.kubectl("delete", "pod", "db-0", "--grace-period=1")
    assert wait_ready(cluster, "db-0") != before
    assert inside(cluster, "db-0", "cat /data/name") == "db-0"


def test_a_kubelet_that_is_killed_finds_its_volumes(cluster: Machine) -> None:
    """What it mounted before stays, and is unmounted by the next kubelet when the pod goes."""
    before = wait_ready(cluster, "db-0", "db-1")
    mounts = our_mounts(cluster)
    restarts = cluster.components()["kubelet"]["restarts"]
    os.kill(cluster.components()["kubelet"]["pid"], signal.SIGKILL)
    os.kill(cluster.components()["csi-local"]["pid"], signal.SIGKILL)
    cluster.kubectl("delete", "pod", "db-1", "--grace-period=1", "--wait=false")
    wait_for(lambda: cluster.components()["kubelet"]["restarts"] > restarts, what="that the kubelet is started again")
    after = wait_ready(cluster, "db-0", "db-1")
    assert (after["db-0"], after["db-1"] != before["db-1"]) == (before["db-0"], True)
    assert inside(cluster, "db-1", "cat /data/name") == "db-1"
    wait_for(lambda: len(our_mounts(cluster)) == len(mounts), what="that no mount of the old pod is left")


def test_ephemeral_block_and_partial_volumes(cluster: Machine) -> None:
    cluster.apply(SCRATCH)
    wait_ready(cluster, "scratch")
    script = "echo data > /part/file; cat /own/a/b/file; echo raw > /dev/raw; sync; head -c 3 /dev/raw"
    assert inside(cluster, "scratch", script) == "data\nraw"
    cluster.kubectl("delete", "pod", "scratch", "--grace-period=1")
    wait_for(
        lambda: not cluster.run("kubectl", "get", "pvc", "scratch-own", check=False).stdout, what="that it is gone"
    )


def test_a_snapshot_is_restored_beside_an_inline_volume(cluster: Machine) -> None:
    cluster.apply(CRDS)
    wait_for(lambda: cluster.run("kubectl", "get", "volumesnapshots", check=False).returncode == 0, what="the kinds")
    cluster.apply(SNAPSHOT)
    ready = ("kubectl", "get", "volumesnapshot", "then", "-o", "jsonpath={.status.readyToUse}")
    wait_for(lambda: cluster.run(*ready).stdout == "true", what="that the snapshot is ready")
    inside(cluster, "db-0", "echo later > /data/name")
    cluster.apply(RESTORED)
    wait_ready(cluster, "restored")
    assert inside(cluster, "restored", "cat /data/name; touch /inline/file; df -m /inline | tail -n 1").startswith(
        "db-0"
    )
    assert len(list((cluster.folder / "data" / "volumes" / "volumes").glob("csi-*"))) == 1
    cluster.kubectl("delete", "pod", "restored")
    cluster.kubectl("delete", "volumesnapshot", "then")
    assert not list((cluster.folder / "data" / "volumes" / "volumes").glob("csi-*"))
    assert not list((cluster.folder / "data" / "volumes" / "snapshots").iterdir())


def test_a_volume_grows_and_its_figures_are_shown(cluster: Machine) -> None:
    """A machine without CAP_SYS_RESOURCE grows it when its pod is started again."""
    more = '{"spec": {"resources": {"requests": {"storage": "128Mi"}}}}'
    cluster.kubectl("patch", "pvc", "data-db-0", "-p", more)
    wait_for(
        lambda: any("128Mi" in str(pv["spec"]["capacity"]) for pv in cluster.get("pv")["items"]), what="the volume"
    )
    if not has_capability(CAP_SYS_RESOURCE):
        cluster.kubectl("delete", "pod", "db-0", "--grace-period=1")
        wait_ready(cluster, "db-0")
    wait_for(lambda: cluster.get("pvc", "data-db-0")["status"]["capacity"]["storage"] == "128Mi", what="the claim")
    assert int(inside(cluster, "db-0", "df -m /data | tail -n 1 | awk '{print $2}'")) > 100
    node = cluster.get("nodes")["items"][0]["metadata"]["name"]
    summary = json.loads(cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary"))
    volumes = [each for pod in summary["pods"] for each in pod.get("volume", []) if "pvcRef" in each]
    assert {"name": "data-db-0", "namespace": "default"} in [each["pvcRef"] for each in volumes]
    metrics = cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/metrics")
    assert 'kubelet_volume_stats_capacity_bytes{namespace="default",persistentvolumeclaim="data-db-0"}' in metrics


ATTACHED = f"""
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: attaching}}
provisioner: {ATTACHING}
parameters: {{csi.storage.k8s.io/fstype: ext4}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: attached}}
spec: {{storageClassName: attaching, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 32Mi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: attached}}
spec:
      terminationGracePeriodSeconds: 1
      containers:{CONTAINER}
        volumeMounts: [{{name: data, mountPath: /data}}]
      volumes: [{{name: data, persistentVolumeClaim: {{claimName: attached}}}}]
"""


@contextmanager
def another_driver(cluster: Machine) -> Iterator[None]:
    """A driver with a socket of its own, and `tiphys csi-controller` beside it, as a pod would have them."""
    kubelet = cluster.folder / "data" / "kubelet"
    node = cluster.get("nodes")["items"][0]["metadata"]["name"]
    driver = ("-m", "tests.csi.attachingdriver", node, cluster.folder / "others", kubelet)
    socket = kubelet / "plugins" / ATTACHING / "csi.sock"
    flags = (f"--csi-address={socket}", f"--kubeconfig={cluster.folder / 'data' / 'admin.conf'}", "--leader-election")
    logs = cluster.folder / "data" / "logs"
    started = [
        cluster.start(sys.executable, *driver, output=logs / "driver.log"),
        cluster.start(
            Path(sys.executable).parent / "tiphys", "csi-controller", *flags, output=logs / "csi-controller.log"
        ),
    ]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
            process.wait(30)


def test_another_driver_and_its_controllers_attach_and_detach(cluster: Machine) -> None:
    with another_driver(cluster):
        cluster.apply(ATTACHED)
        wait_ready(cluster, "attached")
        (attachment,) = cluster.get("volumeattachments")["items"]
        assert attachment["status"]["attached"]
        status = cluster.get("nodes")["items"][0]["status"]
        assert status["volumesInUse"] == [each["name"] for each in status["volumesAttached"]]
        assert status["volumesInUse"][0].startswith(f"kubernetes.io/csi/{ATTACHING}^pvc-")
        assert cluster.get("lease", "-n", "kube-system", f"csi-controller-{ATTACHING}")
        cluster.kubectl("delete", "pod,pvc", "attached")
        wait_for(lambda: not cluster.get("volumeattachments")["items"], what="that it is detached")
        wait_for(lambda: not list((cluster.folder / "others" / "volumes").iterdir()), what="that it is removed")
        # What the driver has removed is in the API until its controllers say so, and they end with this block.
        wait_for(lambda: ATTACHING not in cluster.run("kubectl", "get", "pv", "-o", "yaml").stdout, what="its object")
    wait_for(lambda: len(cluster.get("csinodes")["items"][0]["spec"]["drivers"]) == 1, what="that its driver is gone")


def test_what_is_deleted_leaves_nothing(cluster: Machine) -> None:
    cluster.kubectl("delete", "statefulset,service", "db")
    cluster.kubectl("delete", "pvc", "--all")
    wait_for(lambda: not cluster.get("pv")["items"], what="that every volume is gone")
    staged = Path(cluster.folder, "data/kubelet/plugins/kubernetes.io/csi/local.tiphys")
    volumes = cluster.folder / "data" / "volumes" / "volumes"

    def left() -> list[object]:
        listed = subprocess.run(["losetup", "--noheadings", "--output", "BACK-FILE"], capture_output=True, text=True)
        devices = [line for line in listed.stdout.splitlines() if str(cluster.folder) in line]
        return [*volumes.iterdir(), *our_mounts(cluster), *devices, *staged.iterdir()]

    wait_for(lambda: not left(), 30, f"that nothing is left, such as {left()},")
