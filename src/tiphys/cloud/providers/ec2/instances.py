"""The machines: EC2 instances, known by ``aws:///ZONE/ID``, or by their private DNS name before a node has that id.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
"""

from __future__ import annotations

import re

from tiphys.api.meta.objects import name_of
from tiphys.api.object import Object
from tiphys.cloud.provider import CloudError, InstanceMetadata
from tiphys.cloud.providers.ec2.session import Answer, CallRefused, Ec2Config, Session

_PROVIDER_ID = re.compile(r"aws:///(?:[\w-]*)/(?P<id>i-[0-9a-f]+)")
_GONE = {"terminated", "shutting-down"}
_STOPPED = {"stopped", "stopping"}


class Ec2Instances:
    def __init__(self, session: Session, config: Ec2Config) -> None:
        self._session, self._region = session, config.region

    async def exists(self, node: Object) -> bool:
        return await self.find(node) is not None

    async def is_shut_down(self, node: Object) -> bool:
        instance = await self.find(node)
        return instance is not None and instance["State"]["Name"] in _STOPPED

    async def metadata(self, node: Object) -> InstanceMetadata | None:
        """Raises ``CloudError`` if there is no such machine."""
        instance = await self.find(node)
        if instance is None:
            raise CloudError(f"there is no instance for node {name_of(node)}")
        zone = instance["Placement"]["AvailabilityZone"]
        return InstanceMetadata(
            provider_id=f"aws:///{zone}/{instance['InstanceId']}",
            instance_type=instance["InstanceType"],
            addresses=addresses(instance),
            zone=zone,
            region=self._region,
        )

    async def find(self, node: Object) -> Answer | None:
        """The node's instance, unless it has ended. Raises ``CloudError``."""
        if provider_id := node["spec"].get("providerID"):
            return await self._by_id(instance_id(provider_id))
        named = [{"Name": "private-dns-name", "Values": [name_of(node)]}]
        return _alive(await self._session.every("ec2", "describe_instances", "Reservations", Filters=named))

    async def _by_id(self, identity: str) -> Answer | None:
        try:
            return _alive(
                await self._session.every("ec2", "describe_instances", "Reservations", InstanceIds=[identity])
            )
        except CallRefused as error:
            if error.code == "InvalidInstanceID.NotFound":
                return None
            raise


def instance_id(provider_id: str) -> str:
    """Raises ``CloudError`` for an id that is no instance's."""
    match = _PROVIDER_ID.fullmatch(provider_id)
    if match is None:
        raise CloudError(f"{provider_id} is not the id of an EC2 instance; it has the form aws:///ZONE/i-…")
    return match["id"]


def _alive(reservations: list[Answer]) -> Answer | None:
    instances = [instance for reservation in reservations for instance in reservation["Instances"]]
    return next((one for one in instances if one["State"]["Name"] not in _GONE), None)


def addresses(instance: Answer) -> list[Object]:
    """A node's addresses: those of the machine's interfaces first, then its names."""
    interfaces = [one for one in instance.get("NetworkInterfaces") or () if one.get("Status", "in-use") == "in-use"]
    private = [entry["PrivateIpAddress"] for one in interfaces for entry in one.get("PrivateIpAddresses") or ()]
    if instance.get("PrivateIpAddress"):
        private.insert(0, instance["PrivateIpAddress"])
    shown = [("InternalIP", text) for text in dict.fromkeys(private)]
    shown += [("InternalIP", entry["Ipv6Address"]) for one in interfaces for entry in one.get("Ipv6Addresses") or ()]
    named = (
        *(("ExternalIP", instance.get("PublicIpAddress")), ("InternalDNS", instance.get("PrivateDnsName"))),
        *(("Hostname", instance.get("PrivateDnsName")), ("ExternalDNS", instance.get("PublicDnsName"))),
    )
    shown += [(kind, text) for kind, text in named if text]
    return [{"type": kind, "address": text} for kind, text in shown]
