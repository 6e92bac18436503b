"""EBS volumes and snapshots, known by their ids, and found again by a tag that holds the name they were asked for by.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/ (CreateVolume, AttachVolume, ModifyVolume, …)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from tiphys.api.object import Object
from tiphys.cloud.provider import (
    AttachedElsewhere,
    CloudError,
    CloudSnapshot,
    CloudVolume,
    NoRoom,
    NoSuchDisk,
    OtherDisk,
    RetryAfter,
)
from tiphys.cloud.providers.ec2.instances import Ec2Instances
from tiphys.cloud.providers.ec2.session import Answer, CallRefused, Ec2Config, Session

GIB = 1 << 30
VOLUME_TAG, SNAPSHOT_TAG = "CSIVolumeName", "CSIVolumeSnapshotName"
"""Those of upstream's EBS driver."""
_GONE = ("InvalidVolume.NotFound", "InvalidSnapshot.NotFound", "InvalidParameterValue")
_FULL = ("VolumeLimitExceeded", "MaxIOPSLimitExceeded", "InsufficientVolumeCapacity")
_DEVICES = [f"/dev/xvd{first}{second}" for first in "bc" for second in "abcdefghijklmnopqrstuvwxyz"]
"""Names of upstream's driver; the machine's kernel may call the device otherwise."""
_BY_ID = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_"
_LOOKS, _PAUSE = 60, 1.0


class Ec2Volumes:
    """``pause``: seconds between two looks at what the cloud has begun."""

    has_zones = True

    def __init__(self, session: Session, config: Ec2Config, instances: Ec2Instances, pause: float = _PAUSE) -> None:
        self._session, self._config, self._instances, self._pause = session, config, instances, pause

    async def create(self, name: str, size: int, *, zone: str = "", kind: str = "", source: str = "") -> CloudVolume:
        """See ``Volumes``; sizes are whole GiB."""
        wanted = -(-size // GIB)
        known = await self._named("describe_volumes", "Volumes", VOLUME_TAG, name)
        if known is not None:
            if known["Size"] < wanted or (known.get("SnapshotId") or "") != source:
                raise OtherDisk(f"volume {known['VolumeId']} is called {name}, and is not what was asked for")
            return _volume(known)
        if source:
            wanted = max(wanted, (await self._snapshot(source))["VolumeSize"])
        arguments: Answer = {
            "Size": wanted,
            "AvailabilityZone": zone or await self._any_zone(),
            "VolumeType": kind or "gp3",
            "TagSpecifications": self._tags("volume", VOLUME_TAG, name),
        }
        if source:
            arguments["SnapshotId"] = source
        try:
            made = await self._session.call("ec2", "create_volume", **arguments)
        except CallRefused as error:
            if error.code in _FULL:
                raise NoRoom(str(error)) from error
            raise
        await self._until(lambda: self._volume(made["VolumeId"]), lambda one: one["State"] != "creating", "is made")
        return _volume(await self._volume(made["VolumeId"]))

    async def get(self, identity: str) -> CloudVolume | None:
        try:
            return _volume(await self._volume(identity))
        except NoSuchDisk:
            return None

    async def delete(self, identity: str) -> None:
        try:
            volume = await self._volume(identity)
            if volume["Attachments"]:
                holder = volume["Attachments"][0]["InstanceId"]
                raise AttachedElsewhere(f"volume {identity} is attached to {holder}; detach it first")
            await self._session.call("ec2", "delete_volume", VolumeId=identity)
        except NoSuchDisk:
            return
        except CallRefused as error:
            if error.code not in _GONE:
                raise

    async def attach(self, identity: str, node: Object) -> Sequence[str]:
        """See ``Volumes``. The kernel of a machine with NVMe calls the device by the volume's id."""
        volume = await self._volume(identity)
        instance = await self._instances.find(node)
        if instance is None:
            raise CloudError(f"there is no instance for node {node['metadata']['name']}")
        machine = instance["InstanceId"]
        for attachment in volume["Attachments"]:
            if attachment["InstanceId"] != machine:
                raise AttachedElsewhere(f"volume {identity} is attached to {attachment['InstanceId']}")
        if not volume["Attachments"]:
            device = _free_device(instance)
            call = self._session.call
            await call("ec2", "attach_volume", VolumeId=identity, InstanceId=machine, Device=device)
        await self._until(lambda: self._volume(identity), _is_attached, f"is attached to {machine}")
        attached = (await self._volume(identity))["Attachments"][0]
        return attached["Device"], _BY_ID + identity.replace("-", "")

    async def detach(self, identity: str, node: Object) -> None:
        try:
            volume = await self._volume(identity)
        except NoSuchDisk:
            return
        instance = await self._instances.find(node)
        machine = None if instance is None else instance["InstanceId"]
        held = [one for one in volume["Attachments"] if machine is None or one["InstanceId"] == machine]
        for attachment in held:
            if attachment.get("State") != "detaching":
                arguments = {"VolumeId": identity, "InstanceId": attachment["InstanceId"]}
                await self._session.call("ec2", "detach_volume", **arguments)
        if held:
            await self._until(lambda: self._volume(identity), lambda one: not one["Attachments"], "is detached")

    async def expand(self, identity: str, size: int) -> CloudVolume:
        wanted, volume = -(-size // GIB), await self._volume(identity)
        if volume["Size"] < wanted:
            try:
                await self._session.call("ec2", "modify_volume", VolumeId=identity, Size=wanted)
            except CallRefused as error:
                if error.code in _FULL:
                    raise NoRoom(str(error)) from error
                raise
            await self._until(lambda: self._volume(identity), lambda one: one["Size"] >= wanted, "has grown")
        return _volume(await self._volume(identity))

    async def snapshot(self, name: str, identity: str) -> CloudSnapshot:
        known = await self._named("describe_snapshots", "Snapshots", SNAPSHOT_TAG, name)
        if known is None:
            await self._volume(identity)
            tags = self._tags("snapshot", SNAPSHOT_TAG, name)
            known = await self._session.call("ec2", "create_snapshot", VolumeId=identity, TagSpecifications=tags)
        elif known["VolumeId"] != identity:
            raise OtherDisk(f"snapshot {known['SnapshotId']} is called {name}, and is of volume {known['VolumeId']}")
        return _shown_snapshot(known)

    async def get_snapshot(self, identity: str) -> CloudSnapshot | None:
        try:
            return _shown_snapshot(await self._snapshot(identity))
        except NoSuchDisk:
            return None

    async def delete_snapshot(self, identity: str) -> None:
        try:
            await self._session.call("ec2", "delete_snapshot", SnapshotId=identity)
        except CallRefused as error:
            if error.code not in _GONE:
                raise

    async def _volume(self, identity: str) -> Answer:
        """Raises ``NoSuchDisk``."""
        return await self._one("describe_volumes", "Volumes", "VolumeIds", identity)

    async def _snapshot(self, identity: str) -> Answer:
        return await self._one("describe_snapshots", "Snapshots", "SnapshotIds", identity)

    async def _one(self, action: str, part: str, by: str, identity: str) -> Answer:
        try:
            entries = await self._session.every("ec2", action, part, **{by: [identity]})
        except CallRefused as error:
            if error.code in _GONE or error.code.endswith(".Malformed"):
                raise NoSuchDisk(f"EC2 has no {identity}") from error
            raise
        alive = [one for one in entries if one.get("State") not in ("deleting", "deleted")]
        if not alive:
            raise NoSuchDisk(f"EC2 has no {identity}")
        return alive[0]

    async def _named(self, action: str, part: str, tag: str, name: str) -> Answer | None:
        entries = await self._session.every("ec2", action, part, Filters=[{"Name": f"tag:{tag}", "Values": [name]}])
        return next((one for one in entries if one.get("State") not in ("deleting", "deleted", "error")), None)

    async def _any_zone(self) -> str:
        zones = (await self._session.call("ec2", "describe_availability_zones"))["AvailabilityZones"]
        if not zones:
            raise CloudError(f"region {self._config.region} has no zone that is available")
        return str(zones[0]["ZoneName"])

    def _tags(self, kind: str, tag: str, name: str) -> list[Answer]:
        tags = {tag: name, **self._config.tags}
        return [{"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]

    async def _until(self, look: Callable[[], Awaitable[Answer]], done: Callable[[Answer], bool], what: str) -> None:
        """Look again and again. Raises ``RetryAfter`` if it takes longer than a call may."""
        for _ in range(_LOOKS):
            if done(await look()):
                return
            await asyncio.sleep(self._pause)
        raise RetryAfter(f"it takes longer than {_LOOKS * self._pause:.0f} s until the volume {what}", 10.0)


def _free_device(instance: Answer) -> str:
    taken = {mapping["DeviceName"] for mapping in instance.get("BlockDeviceMappings") or ()}
    device = next((device for device in _DEVICES if device not in taken), None)
    if device is None:
        raise NoRoom(f"instance {instance['InstanceId']} has no name left for another device")
    return device


def _is_attached(volume: Answer) -> bool:
    return any(attachment.get("State", "attached") == "attached" for attachment in volume["Attachments"])


def _volume(volume: Answer) -> CloudVolume:
    return CloudVolume(
        volume["VolumeId"], volume["Size"] * GIB, volume["AvailabilityZone"], volume.get("SnapshotId") or ""
    )


def _shown_snapshot(snapshot: Answer) -> CloudSnapshot:
    return CloudSnapshot(
        snapshot["SnapshotId"],
        snapshot["VolumeId"],
        snapshot["VolumeSize"] * GIB,
        snapshot["StartTime"].timestamp(),
        is_ready=snapshot.get("State") == "completed",
    )
