"""CSI on the node: what drivers hear, what is noted on the disk, and what becomes of mounts that are interrupted."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.world import FakeApi, container, pod, virtual_loop
from tiphys.api.object import Object
from tiphys.api.volumes.attachments import attachment_name, unique_volume_name
from tiphys.client.rest import Client
from tiphys.kubelet.tokens import Token
from tiphys.kubelet.volumes import growth
from tiphys.kubelet.volumes.csi import nodeinfo, requests
from tiphys.kubelet.volumes.csi.drivers import CSIDriver, CSIDrivers, DriverMissing
from tiphys.kubelet.volumes.csi.layout import Layout, StagedVolume
from tiphys.kubelet.volumes.csi.mounter import CSIMounter
from tiphys.kubelet.volumes.csi.nodeinfo import DriverOnNode
from tiphys.kubelet.volumes.csi.requests import CSIVolume, SecretName
from tiphys.kubelet.volumes.failures import AttachLimitReached, MountFailure
from tiphys.kubelet.volumes.payloads import TokenSpec
from tiphys.kubelet.volumes.selinux import label_of, machine_label
from tiphys.runtime.clock import VirtualClock
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.stream import GrpcError
from tiphys.wire.inprocess import InProcessTransport

NAME = "driver.example"
VOLUME = CSIVolume("pv", NAME, "handle", access_modes=("ReadWriteOnce",), attributes={"speed": "high"})
POD = pod("p", serviceAccountName="robot", securityContext={"fsGroup": 7})
POD["metadata"] |= {"uid": "uid-1", "namespace": "default"}
LABEL = "system_u:object_r:container_file_t:s0:c10,c0"
OTHER = {**POD, "metadata": {**POD["metadata"], "name": "q", "uid": "uid-2"}}


class NodeDriver:
    """A driver that remembers what it was asked, and waits or fails as a test wishes."""

    name = NAME

    def __init__(self, *capabilities: str) -> None:
        self.capabilities = capabilities
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.failures: dict[str, list[GrpcError]] = {}
        self.waits: dict[str, asyncio.Event] = {}

    async def call(self, method: str, /, **fields: Any) -> Any:
        self.calls.append((method, fields))
        if method in self.waits:
            await self.waits[method].wait()
        if failures := self.failures.get(method):
            raise failures.pop(0)

    async def can(self, capability: str) -> bool:
        return capability in self.capabilities

    @property
    def methods(self) -> list[str]:
        return [method.removeprefix("Node").removesuffix("Volume") for method, _ in self.calls]


class Scene:
    """A mounter over an API of dicts. ``about`` is the spec of the driver's CSIDriver."""

    def __init__(self, folder: Path, driver: NodeDriver, clock: VirtualClock, about: Object | None) -> None:
        self.folder = folder
        self.clock = clock
        self.api = FakeApi(lambda: "2026-01-01T00:00:00Z")
        self.drivers: dict[str, CSIDriver] = {NAME: driver}
        self.given: list[Path] = []
        self.reported: list[str] = []
        self.asked: list[str] = []
        if about is not None:
            self.put("storage.k8s.io/v1", "csidrivers", {"metadata": {"name": NAME}, "spec": about})
        self.mounter = self.new_mounter()

    def put(self, group: str, plural: str, obj: Object, namespace: str = "") -> None:
        root = f"/api/{group}" if "/" not in group else f"/apis/{group}"
        place = f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"
        self.api.put(place, obj)

    def new_mounter(self) -> CSIMounter:
        """As a kubelet that starts makes it."""
        return CSIMounter(
            root=self.folder,
            client=Client(InProcessTransport(self.api.handler)),
            node_name="node-1",
            drivers=self,
            tokens=self,
            clock=self.clock,
            give=self._give,
            report_in_use=self._report,
            freed=lambda: None,
        )

    def find(self, name: str) -> CSIDriver | None:
        return self.drivers.get(name)

    def get(self, name: str) -> CSIDriver:
        if name not in self.drivers:
            raise DriverMissing(name)
        return self.drivers[name]

    async def update_limit(self, name: str) -> None:
        self.asked.append(name)

    async def issued(self, pod: Object, spec: TokenSpec) -> Token:
        return Token(f"token-for-{spec.audience}", 0.0, 86400.0)

    async def _give(self, pod: Object, folder: Path) -> None:
        self.given.append(folder)

    async def _report(self, volume: str) -> None:
        self.reported.append(volume)
        assert volume in self.mounter.in_use(), "it is in use before anybody looks whether it is attached"


NO_ATTACHMENT: Object = {"attachRequired": False}


def play(folder: Path, driver: NodeDriver, scene: Callable[[Scene], Awaitable[None]], about: Object | None) -> None:
    with virtual_loop() as loop:
        loop.run_until_complete(scene(Scene(folder, driver, VirtualClock(loop), about)))


def staging_folder(folder: Path) -> Path:
    return Layout(folder).staging(NAME, "handle")


def test_a_volume_is_staged_once_and_published_to_each_pod(tmp_path: Path) -> None:
    driver = NodeDriver("STAGE_UNSTAGE_VOLUME")

    async def scene(world: Scene) -> None:
        target = await world.mounter.mount(POD, VOLUME)
        assert target == tmp_path / "pods/uid-1/volumes/kubernetes.io~csi/pv/mount"
        noted = json.loads((target.parent / "vol_data.json").read_text())
        assert noted == {
            "specVolID": "pv",
            "volumeHandle": "handle",
            "driverName": NAME,
            "nodeName": "node-1",
            "attachmentID": attachment_name(NAME, "handle", "node-1"),
            "volumeLifecycleMode": "Persistent",
        }
        stage, publish = (fields for _, fields in driver.calls)
        assert stage["staging_target_path"] == publish["staging_target_path"] == str(staging_folder(tmp_path))
        assert publish["target_path"] == str(target)
        assert publish["volume_context"] == {"speed": "high"}
        await world.mounter.mount(POD, VOLUME)
        assert driver.methods == ["Stage", "Publish"], "what is there is left alone"
        await world.mounter.mount(OTHER, VOLUME)
        await world.mounter.unmount("uid-1")
        assert driver.methods[-1] == "Unpublish"
        await world.mounter.unmount("uid-2")
        assert driver.methods[-2:] == ["Unpublish", "Unstage"]
        assert not staging_folder(tmp_path).parent.exists()
        assert not target.parent.exists()

    play(tmp_path, driver, scene, NO_ATTACHMENT)


def test_a_pod_that_goes_while_its_volume_is_staged_leaves_nothing(tmp_path: Path) -> None:
    driver = NodeDriver("STAGE_UNSTAGE_VOLUME")
    driver.waits["NodeStageVolume"] = asyncio.Event()

    async def scene(world: Scene) -> None:
        mounting = asyncio.ensure_future(world.mounter.mount(POD, VOLUME))
        await world.clock.sleep(1)
        mounting.cancel()
        await asyncio.gather(mounting, return_exceptions=True)
        ending = asyncio.ensure_future(world.mounter.unmount("uid-1"))
        await world.clock.sleep(1)
        assert driver.methods == ["Stage"], "a driver that is at work is not interrupted"
        driver.waits["NodeStageVolume"].set()
        await ending
        assert driver.methods == ["Stage", "Publish", "Unpublish", "Unstage"]
        assert list(world.mounter.layout.all_staged()) == []

    play(tmp_path, driver, scene, NO_ATTACHMENT)


def test_a_kubelet_that_starts_finds_on_the_disk_what_to_undo(tmp_path: Path) -> None:
    driver = NodeDriver("STAGE_UNSTAGE_VOLUME")

    async def scene(world: Scene) -> None:
        await world.mounter.mount(POD, VOLUME)
        await world.mounter.mount(POD, replace(VOLUME, name="raw", handle="raw-handle", block=True))
        world.mounter = world.new_mounter()
        await world.mounter.sweep()
        assert "Unstage" not in driver.methods, "a pod has it"
        await world.mounter.unmount("uid-1")
        assert sorted(driver.methods[-4:]) == ["Unpublish", "Unpublish", "Unstage", "Unstage"]
        left = world.mounter.layout.note_staged(NAME, "handle")  # as if it had ended before the last step
        assert left.is_dir()
        await world.mounter.sweep()
        assert not world.mounter.layout.is_staged(StagedVolume(NAME, "handle"))

    play(tmp_path, driver, scene, NO_ATTACHMENT)


def test_a_driver_that_is_away_is_waited_for(tmp_path: Path) -> None:
    driver = NodeDriver()

    async def scene(world: Scene) -> None:
        await world.mounter.mount(POD, VOLUME)
        gone = world.drivers.pop(NAME)
        with pytest.raises(
            MountFailure, match=r"MountVolume.SetUp failed for volume \"pv\" : .*driver.example not found"
        ):
            await world.mounter.mount(OTHER, VOLUME)
        with pytest.raises(OSError, match="TearDown failed"):
            await world.mounter.unmount("uid-1")
        with pytest.raises(OSError, match="later"):
            await world.mounter.unmount("uid-1")
        world.drivers[NAME] = gone
        await world.clock.sleep(1)
        await world.mounter.unmount("uid-1")
        assert driver.methods == ["Publish", "Unpublish"]

    play(tmp_path, driver, scene, NO_ATTACHMENT)


def test_what_the_driver_says_is_in_the_event(tmp_path: Path) -> None:
    driver = NodeDriver("STAGE_UNSTAGE_VOLUME")
    driver.failures["NodeStageVolume"] = [GrpcError(StatusCode.INTERNAL, "no luck")]
    driver.failures["NodePublishVolume"] = [GrpcError(StatusCode.NOT_FOUND, "gone")]

    async def scene(world: Scene) -> None:
        for text in (
            'MountVolume.MountDevice failed for volume "pv" : rpc error: code = Internal desc = no luck',
            'MountVolume.SetUp failed for volume "pv" : rpc error: code = NotFound desc = gone',
        ):
            with pytest.raises(MountFailure) as caught:
                await world.mounter.mount(POD, VOLUME)
            assert str(caught.value) == text
        await world.mounter.mount(POD, VOLUME)

    play(tmp_path, driver, scene, NO_ATTACHMENT)


def test_a_volume_is_mounted_once_it_is_attached(tmp_path: Path) -> None:
    driver = NodeDriver()
    attachment: Object = {"metadata": {"name": attachment_name(NAME, "handle", "node-1")}, "spec": {}}

    async def scene(world: Scene) -> None:
        with pytest.raises(MountFailure, match="no volume attachment"):
            await world.mounter.mount(POD, VOLUME)
        assert world.reported == [unique_volume_name(NAME, "handle")]
        failed = {"attached": False, "attachError": {"message": "no luck"}}
        world.put("storage.k8s.io/v1", "volumeattachments", {**attachment, "status": failed})
        with pytest.raises(MountFailure, match="no luck"):
            await world.mounter.mount(POD, VOLUME)
        mounting = asyncio.ensure_future(world.mounter.mount(POD, VOLUME))
        await world.clock.sleep(3)
        done = {"attached": True, "attachmentMetadata": {"device": "sdx"}}
        world.put("storage.k8s.io/v1", "volumeattachments", {**attachment, "status": done})
        await mounting
        assert driver.calls[-1][1]["publish_context"] == {"device": "sdx"}
        assert world.mounter.in_use() == [unique_volume_name(NAME, "handle")]
        await world.mounter.unmount("uid-1")
        assert world.mounter.in_use() == []

    play(tmp_path, driver, scene, about=None)


@pytest.mark.parametrize(("period", "code"), [(10, 8), (10, 13), (None, 8)])
def test_a_node_that_can_have_no_more_volumes_says_so(tmp_path: Path, period: int | None, code: int) -> None:
    failed = {"attached": False, "attachError": {"message": "no slot is free", "errorCode": code}}
    attachment: Object = {"metadata": {"name": attachment_name(NAME, "handle", "node-1")}, "spec": {}, "status": failed}
    about = {"nodeAllocatableUpdatePeriodSeconds": period} if period else {}

    async def scene(world: Scene) -> None:
        world.put("storage.k8s.io/v1", "volumeattachments", attachment)
        with pytest.raises(MountFailure, match="no slot is free") as failure:
            await world.mounter.mount(POD, VOLUME)
        limit = period is not None and code == 8
        assert isinstance(failure.value, AttachLimitReached) is limit
        assert world.asked == ([NAME] if limit else [])

    play(tmp_path, NodeDriver(), scene, about)


@pytest.mark.parametrize("in_secrets", [False, True])
def test_a_driver_hears_of_the_pod_what_it_asks_for(in_secrets: Any, tmp_path: Path) -> None:
    driver = NodeDriver("VOLUME_MOUNT_GROUP")
    about: Object = {
        "attachRequired": False,
        "podInfoOnMount": True,
        "tokenRequests": [{"audience": "vault"}],
        "serviceAccountTokenInSecrets": in_secrets,
        "fsGroupPolicy": "File",
    }

    async def scene(world: Scene) -> None:
        secret = {"metadata": {"name": "key"}, "data": {"password": base64.b64encode(b"sesame").decode()}}
        world.put("v1", "secrets", secret, namespace="default")
        await world.mounter.mount(POD, replace(VOLUME, publish_secret=SecretName("default", "key"), fs_type="ext4"))
        (fields,) = (fields for _, fields in driver.calls)
        tokens = {requests.TOKENS: '{"vault":{"token":"token-for-vault","expirationTimestamp":"1970-01-02T00:00:00Z"}}'}
        assert fields["secrets"] == {"password": "sesame", **(tokens if in_secrets else {})}
        assert fields["volume_context"] == {
            "speed": "high",
            "csi.storage.k8s.io/pod.name": "p",
            "csi.storage.k8s.io/pod.namespace": "default",
            "csi.storage.k8s.io/pod.uid": "uid-1",
            "csi.storage.k8s.io/serviceAccount.name": "robot",
            "csi.storage.k8s.io/ephemeral": "false",
            **({} if in_secrets else tokens),
        }
        assert fields["volume_capability"]["mount"]["volume_mount_group"] == "7"
        assert not world.given, "the driver gives it to the group"

    play(tmp_path, driver, scene, about)


def test_a_volume_that_is_to_be_published_again_is(tmp_path: Path) -> None:
    driver = NodeDriver()

    async def scene(world: Scene) -> None:
        for _ in range(2):
            await world.mounter.mount(POD, replace(VOLUME, fs_type="ext4"))
        assert driver.methods == ["Publish", "Publish"]
        assert len(world.given) == 1, "its files are the pod's already"

    play(tmp_path, driver, scene, {**NO_ATTACHMENT, "requiresRepublish": True})


def test_a_volume_for_one_pod_is_not_given_to_a_second(tmp_path: Path) -> None:
    async def scene(world: Scene) -> None:
        volume = replace(VOLUME, access_modes=("ReadWriteOncePod",))
        await world.mounter.mount(POD, volume)
        with pytest.raises(MountFailure, match="is already in use by another pod"):
            await world.mounter.mount(OTHER, volume)
        await world.mounter.unmount("uid-1")
        await world.mounter.mount(OTHER, volume)

    play(tmp_path, NodeDriver(), scene, NO_ATTACHMENT)


@pytest.mark.parametrize(
    ("can", "modes", "options"),
    [
        (True, ("ReadWriteOncePod",), ["noatime", f'context="{LABEL}"']),
        (True, ("ReadWriteOnce",), ["noatime"]),
        (True, ("ReadWriteOncePod", "ReadWriteOnce"), ["noatime"]),
        (False, ("ReadWriteOncePod",), ["noatime"]),
        (None, ("ReadWriteOncePod",), ["noatime"]),
    ],
)
def test_a_volume_of_one_pod_is_mounted_with_its_label(
    tmp_path: Path, can: bool | None, modes: tuple[str, ...], options: list[str]
) -> None:
    driver = NodeDriver("STAGE_UNSTAGE_VOLUME")

    async def scene(world: Scene) -> None:
        await world.mounter.mount(
            POD, replace(VOLUME, access_modes=modes, mount_options=("noatime",), label=LABEL, fs_type="ext4")
        )
        assert [call["volume_capability"]["mount"]["mount_flags"] for _, call in driver.calls] == [options, options]

    play(tmp_path, driver, scene, {**NO_ATTACHMENT, **({} if can is None else {"seLinuxMount": can})})


def selinux_pod(own: Object | None, *containers: Object | None, policy: str = "") -> Object:
    mounts = [{"name": "v", "mountPath": "/v"}]
    made = [
        container(f"c{i}", volumeMounts=mounts, **({"securityContext": {"seLinuxOptions": each}} if each else {}))
        for i, each in enumerate(containers)
    ]
    context = {"seLinuxOptions": own} if own else {}
    return pod(
        "p", *made, container("other"), securityContext=context | ({"seLinuxChangePolicy": policy} if policy else {})
    )


@pytest.mark.parametrize(
    ("made", "label"),
    [
        (selinux_pod({"level": "s0:c10,c0"}, None), LABEL),
        (selinux_pod({"level": "s0:c10,c0", "type": "container_init_t"}, None, None), LABEL),
        (selinux_pod(None, {"level": "s0:c10,c0", "user": "me_u"}), LABEL.replace("system_u", "me_u")),
        (selinux_pod({"level": "s0:c1"}, {"level": "s0:c10,c0"}), LABEL),
        (selinux_pod(None, {"level": "s0:c10,c0"}, None), LABEL),
        (selinux_pod({"type": "container_t"}, None), ""),
        (selinux_pod(None, None), ""),
        (selinux_pod({"level": "s0:c10,c0"}), ""),  # nobody mounts it
        (selinux_pod({"level": "s0:c10,c0"}, None, policy="Recursive"), ""),
        (selinux_pod({"level": "s0:c10,c0"}, None, policy="MountOption"), LABEL),
    ],
)
def test_the_label_that_a_pod_wants_for_a_volume(made: Object, label: str) -> None:
    assert label_of(made, "v", "system_u:object_r:container_file_t:s0") == label
    assert label_of(made, "v", "") == ""  # a kernel without SELinux


def test_containers_that_want_different_labels() -> None:
    made = selinux_pod(None, {"level": "s0:c1"}, {"level": "s0:c2"})
    with pytest.raises(MountFailure, match=r"multiple SELinux labels found: system_u:.*:s0:c1,system_u:.*:s0:c2"):
        label_of(made, "v", "system_u:object_r:container_file_t:s0")


def test_the_label_of_the_machine(tmp_path: Path) -> None:
    assert machine_label(tmp_path) == ""
    contexts = tmp_path / "etc/selinux/targeted/contexts"
    for folder in (contexts, tmp_path / "sys/fs/selinux"):
        folder.mkdir(parents=True)
    (tmp_path / "sys/fs/selinux/enforce").write_text("1")
    assert machine_label(tmp_path) == ""
    (tmp_path / "etc/selinux/config").write_text("# comment\nSELINUX=enforcing\nSELINUXTYPE=targeted\n")
    process, file = "system_u:system_r:container_t:s0", "system_u:object_r:container_file_t:s0"
    (contexts / "lxc_contexts").write_text(f'process = "{process}"\ncontent = "x"\nfile = "{file}"\n')
    assert machine_label(tmp_path) == file


def test_growth_on_the_node(tmp_path: Path) -> None:
    driver = NodeDriver("STAGE_UNSTAGE_VOLUME", "EXPAND_VOLUME")
    driver.failures["NodeExpandVolume"] = [GrpcError(StatusCode.INTERNAL, "no luck")]

    async def scene(world: Scene) -> None:
        target = await world.mounter.mount(POD, VOLUME)
        with pytest.raises(MountFailure, match="NodeExpandVolume failed"):
            await world.mounter.expand("uid-1", VOLUME, 4096)
        assert not await world.mounter.expand("uid-1", VOLUME, 4096), "not so soon"
        await world.clock.sleep(1)
        assert await world.mounter.expand("uid-1", VOLUME, 4096)
        fields = driver.calls[-1][1]
        assert (fields["volume_path"], fields["capacity_range"]) == (str(target), {"required_bytes": 4096})
        assert fields["staging_target_path"] == str(staging_folder(tmp_path))

    play(tmp_path, driver, scene, NO_ATTACHMENT)


# Decisions


RWX = ("ReadWriteMany",)


@pytest.mark.parametrize(
    ("policy", "change", "group", "given"),
    [
        (None, {}, 7, False),
        (None, {"fs_type": "ext4"}, 7, True),
        (None, {"fs_type": "ext4"}, None, False),
        (None, {"fs_type": "ext4", "access_modes": RWX}, 7, False),
        (None, {"fs_type": "ext4", "access_modes": ()}, 7, False),
        (None, {"fs_type": "ext4", "access_modes": (), "ephemeral": True}, 7, True),
        ("ReadWriteOnceWithFSType", {"fs_type": "ext4", "read_only": True}, 7, False),
        ("None", {"fs_type": "ext4"}, 7, False),
        ("File", {}, 7, True),
        ("File", {"access_modes": RWX}, 7, True),
        ("File", {"read_only": True}, 7, False),
        ("File", {"block": True}, 7, False),
    ],
)
def test_who_gives_files_to_the_group(policy: str | None, change: Any, group: int | None, given: Any) -> None:
    about = None if policy is None else {"spec": {"fsGroupPolicy": policy}}
    assert requests.kubelet_gives_group(replace(VOLUME, **change), about, group) is given


@pytest.mark.parametrize(
    ("ephemeral", "modes", "problem"),
    [
        (False, None, ""),
        (True, None, 'volume mode "Ephemeral" not supported by driver driver.example (no CSIDriver object)'),
        (False, ["Persistent"], ""),
        (True, ["Persistent", "Ephemeral"], ""),
        (
            True,
            ["Persistent"],
            'volume mode "Ephemeral" not supported by driver driver.example (only supports ["Persistent"])',
        ),
        (
            False,
            ["Ephemeral"],
            'volume mode "Persistent" not supported by driver driver.example (only supports ["Ephemeral"])',
        ),
    ],
)
def test_kinds_of_volumes(ephemeral: Any, modes: list[str] | None, problem: str) -> None:
    about = None if modes is None else {"spec": {"volumeLifecycleModes": modes}}
    assert requests.lifecycle_problem(replace(VOLUME, ephemeral=ephemeral), about) == problem


NODE: Object = {"metadata": {"name": "node-1", "uid": "uid-of-node", "labels": {"zone": "west"}}}
DRIVER = DriverOnNode(NAME, "id-1", 5, {"zone": "west", "rack": "r1"})


def test_what_a_node_says_of_its_drivers() -> None:
    fresh = nodeinfo.new_csi_node(NODE)
    assert fresh["metadata"]["ownerReferences"][0]["uid"] == "uid-of-node"
    known = nodeinfo.with_driver(fresh, DRIVER)
    assert known is not None
    assert known["spec"]["drivers"] == [
        {"name": NAME, "nodeID": "id-1", "topologyKeys": ["rack", "zone"], "allocatable": {"count": 5}}
    ]
    assert nodeinfo.with_driver(known, DRIVER) is None
    changed = nodeinfo.with_driver(known, replace(DRIVER, node_id="id-2", most_volumes=0))
    assert changed is not None
    assert changed["spec"]["drivers"] == [{"name": NAME, "nodeID": "id-2", "topologyKeys": ["rack", "zone"]}]
    without = nodeinfo.without_driver(known, NAME)
    assert without is not None
    assert without["spec"]["drivers"] == []
    assert nodeinfo.without_driver(without, NAME) is None


def test_where_a_node_is_for_its_drivers() -> None:
    patch = nodeinfo.node_patch(NODE, DRIVER)
    assert patch == {
        "metadata": {
            "annotations": {"csi.volume.kubernetes.io/nodeid": '{"driver.example":"id-1"}'},
            "labels": {"zone": "west", "rack": "r1"},
        }
    }
    annotated = {"metadata": {**NODE["metadata"], **patch["metadata"]}}
    assert nodeinfo.node_patch(annotated, DRIVER) is None
    assert nodeinfo.node_patch_without(annotated, NAME) == {
        "metadata": {"annotations": {"csi.volume.kubernetes.io/nodeid": None}}
    }
    with pytest.raises(ValueError, match='driver reported "zone":"east" but existing label is "zone":"west"'):
        nodeinfo.node_patch(NODE, replace(DRIVER, topology={"zone": "east"}))


def test_a_claim_after_its_growth() -> None:
    claim = {
        "status": {
            "capacity": {"storage": "1Gi"},
            "allocatedResourceStatuses": {"storage": "NodeResizePending"},
            "conditions": [{"type": "FileSystemResizePending", "status": "True"}, {"type": "Mine", "status": "True"}],
        }
    }
    volume = {"spec": {"capacity": {"storage": "2Gi"}}}
    assert growth.is_due(claim, volume)
    assert growth.waits_for_node(claim)
    after = growth.status_after(claim, volume)
    assert after["capacity"] == {"storage": "2Gi"}
    assert [each["type"] for each in after["conditions"]] == ["Mine"]
    assert not growth.is_due({"status": after}, volume)


def test_limits_are_read_again_as_often_as_the_driver_says(tmp_path: Path) -> None:
    class Driver:
        most = 5

        async def info(self) -> DriverOnNode:
            return DriverOnNode(NAME, "id-1", self.most, {})

    async def scene(world: Scene) -> None:
        drivers = CSIDrivers(Client(InProcessTransport(world.api.handler)), "node-1", lambda: NODE, world.clock)
        driver = Driver()
        drivers._drivers[NAME] = driver  # type: ignore[assignment]
        world.api.put("/apis/storage.k8s.io/v1/csinodes", nodeinfo.new_csi_node(NODE))
        path = "/apis/storage.k8s.io/v1/csinodes/node-1"

        def limit() -> int:
            [entry] = world.api.objects[path]["spec"]["drivers"]
            return int(entry["allocatable"]["count"])

        loop = asyncio.ensure_future(drivers.keep_limits())
        await world.clock.sleep(15)
        assert limit() == 5
        driver.most = 3
        await world.clock.sleep(10)
        assert limit() == 5
        await world.clock.sleep(20)
        assert limit() == 3
        world.put("storage.k8s.io/v1", "csidrivers", {"metadata": {"name": NAME}, "spec": {}})
        driver.most = 2
        await world.clock.sleep(200)
        assert limit() == 3
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)

    play(tmp_path, NodeDriver(), scene, {"nodeAllocatableUpdatePeriodSeconds": 30})
