"""Network load balancers: one for each Service, with a listener and a target group for each of its ports.

Traffic goes to the nodes' ports, and keeps its source address. Source:
https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiphys.api.meta.objects import key_of
from tiphys.api.object import Object
from tiphys.cloud.provider import CloudError, load_balancer_name
from tiphys.cloud.providers.ec2.instances import instance_id
from tiphys.cloud.providers.ec2.session import Answer, CallRefused, Ec2Config, Session
from tiphys.runtime.binary.fnv import fnv32a

_MISSING = {"LoadBalancerNotFound", "TargetGroupNotFound", "ListenerNotFound"}


class Ec2LoadBalancers:
    def __init__(self, session: Session, config: Ec2Config) -> None:
        self._session, self._config = session, config

    async def get(self, cluster: str, service: Object) -> Object | None:
        balancer = await self._find(service)
        return None if balancer is None else _status(balancer)

    async def ensure(self, cluster: str, service: Object, nodes: Sequence[Object]) -> Object:
        """Make it, or change its listeners and targets. Raises ``CloudError`` for what EC2 cannot do."""
        for port in service["spec"].get("ports") or ():
            if port.get("protocol", "TCP") not in ("TCP", "UDP"):
                raise CloudError(f"EC2's load balancers do not carry {port['protocol']}, as port {port['port']} wants")
        balancer = await self._find(service) or await self._create(cluster, service, nodes)
        await self._reconcile(balancer, cluster, service, nodes)
        return _status(balancer)

    async def update(self, cluster: str, service: Object, nodes: Sequence[Object]) -> None:
        for port in service["spec"].get("ports") or ():
            group = await self._group(group_name(service, port))
            if group is None:
                raise CloudError(f"the target group of port {port['port']} is gone")
            await self._set_targets(group, nodes)

    async def delete(self, cluster: str, service: Object) -> None:
        balancer = await self._find(service)
        if balancer is not None:
            for listener in await self._listeners(balancer):
                await self._remove(listener)
            # The last one to go: while it is there, what is left is found again.
            await self._gone("delete_load_balancer", LoadBalancerArn=balancer["LoadBalancerArn"])

    # One load balancer

    async def _find(self, service: Object) -> Answer | None:
        names = [load_balancer_name(service)]
        return await self._first("describe_load_balancers", "LoadBalancers", Names=names)

    async def _create(self, cluster: str, service: Object, nodes: Sequence[Object]) -> Answer:
        subnets = list(self._config.subnets) or await self._subnets_of(nodes)
        if not subnets:
            raise CloudError("no subnet is known for the load balancer: there are no nodes, and the config names none")
        made = await self._session.call(
            "elbv2",
            "create_load_balancer",
            Name=load_balancer_name(service),
            Type="network",
            Scheme="internal" if self._config.internal else "internet-facing",
            Subnets=subnets,
            Tags=self._tags(cluster, service),
        )
        balancer: Answer = made["LoadBalancers"][0]
        return balancer

    async def _reconcile(self, balancer: Answer, cluster: str, service: Object, nodes: Sequence[Object]) -> None:
        """The listeners that are there, and those that the ports want: one goes, the other comes."""
        listeners = {(one["Protocol"], one["Port"]): one for one in await self._listeners(balancer)}
        ports = {(port.get("protocol", "TCP"), port["port"]): port for port in service["spec"].get("ports") or ()}
        for at in listeners.keys() - ports.keys():
            await self._remove(listeners[at])
        for at, port in ports.items():
            group = await self._group(group_name(service, port)) or await self._create_group(cluster, service, port)
            await self._set_targets(group, nodes)
            forward = [{"Type": "forward", "TargetGroupArn": group["TargetGroupArn"]}]
            listener = listeners.get(at)
            if listener is None:
                where = {"Protocol": at[0], "Port": at[1], "LoadBalancerArn": balancer["LoadBalancerArn"]}
                await self._session.call("elbv2", "create_listener", **where, DefaultActions=forward)
            elif _target(listener) != group["TargetGroupArn"]:
                before = _target(listener)
                arn = listener["ListenerArn"]
                await self._session.call("elbv2", "modify_listener", ListenerArn=arn, DefaultActions=forward)
                await self._gone("delete_target_group", TargetGroupArn=before)

    async def _remove(self, listener: Answer) -> None:
        await self._gone("delete_listener", ListenerArn=listener["ListenerArn"])
        await self._gone("delete_target_group", TargetGroupArn=_target(listener))

    async def _listeners(self, balancer: Answer) -> list[Answer]:
        arn = balancer["LoadBalancerArn"]
        return await self._session.every("elbv2", "describe_listeners", "Listeners", LoadBalancerArn=arn)

    # Target groups

    async def _group(self, name: str) -> Answer | None:
        return await self._first("describe_target_groups", "TargetGroups", Names=[name])

    async def _create_group(self, cluster: str, service: Object, port: Object) -> Answer:
        made = await self._session.call(
            "elbv2",
            "create_target_group",
            Name=group_name(service, port),
            Protocol=port.get("protocol", "TCP"),
            Port=port["nodePort"],
            VpcId=await self._vpc(),
            TargetType="instance",
            Tags=self._tags(cluster, service),
            **health_check(service),
        )
        group: Answer = made["TargetGroups"][0]
        return group

    async def _set_targets(self, group: Answer, nodes: Sequence[Object]) -> None:
        """Register the nodes, and deregister other machines."""
        arn = group["TargetGroupArn"]
        health = await self._session.call("elbv2", "describe_target_health", TargetGroupArn=arn)
        have = {entry["Target"]["Id"] for entry in health["TargetHealthDescriptions"] if _is_registered(entry)}
        wanted = {instance_id(node["spec"]["providerID"]) for node in nodes if node["spec"].get("providerID")}
        for action, chosen in (("register_targets", wanted - have), ("deregister_targets", have - wanted)):
            if chosen:
                targets = [{"Id": identity} for identity in sorted(chosen)]
                await self._session.call("elbv2", action, TargetGroupArn=arn, Targets=targets)

    # Where, and whose

    async def _subnets_of(self, nodes: Sequence[Object]) -> list[str]:
        """One subnet of each zone in which there are nodes."""
        identities = [instance_id(node["spec"]["providerID"]) for node in nodes if node["spec"].get("providerID")]
        if not identities:
            return []
        reservations = await self._session.every("ec2", "describe_instances", "Reservations", InstanceIds=identities)
        by_zone = {
            instance["Placement"]["AvailabilityZone"]: instance["SubnetId"]
            for reservation in reservations
            for instance in reservation["Instances"]
            if instance.get("SubnetId")
        }
        return [by_zone[zone] for zone in sorted(by_zone)]

    async def _vpc(self) -> str:
        if self._config.vpc:
            return self._config.vpc
        chosen = {"SubnetIds": list(self._config.subnets)} if self._config.subnets else {"Filters": _DEFAULT_SUBNETS}
        subnets = await self._session.every("ec2", "describe_subnets", "Subnets", **chosen)
        if not subnets:
            raise CloudError("no network is known: name it as vpc in the file of --cloud-config")
        return str(subnets[0]["VpcId"])

    def _tags(self, cluster: str, service: Object) -> list[dict[str, str]]:
        tags = {
            **self._config.tags,
            f"kubernetes.io/cluster/{cluster}": "owned",
            "kubernetes.io/service-name": key_of(service),
        }
        return [{"Key": name, "Value": text} for name, text in sorted(tags.items())]

    async def _first(self, action: str, part: str, **arguments: Any) -> Answer | None:
        try:
            return next(iter(await self._session.every("elbv2", action, part, **arguments)), None)
        except CallRefused as error:
            if error.code in _MISSING:
                return None
            raise

    async def _gone(self, action: str, **arguments: Any) -> None:
        """Delete what may be gone already."""
        try:
            await self._session.call("elbv2", action, **arguments)
        except CallRefused as error:
            if error.code not in _MISSING:
                raise


_DEFAULT_SUBNETS = [{"Name": "default-for-az", "Values": ["true"]}]


def _status(balancer: Answer) -> Object:
    return {"ingress": [{"hostname": balancer["DNSName"]}]}


def _target(listener: Answer) -> str:
    return str(listener["DefaultActions"][0]["TargetGroupArn"])


def _is_registered(entry: Answer) -> bool:
    return bool(entry["TargetHealth"]["State"] != "draining")


def group_name(service: Object, port: Object) -> str:
    """32 characters at most. A port that leads elsewhere has another group, as a group's port cannot be changed."""
    protocol, number, node_port = port.get("protocol", "TCP"), port["port"], port["nodePort"]
    checked = health_check(service)
    described = f"{service['metadata']['uid']}/{protocol}/{number}/{node_port}/{sorted(checked.items())}"
    return f"k8s-{number}-{node_port}-{fnv32a(described.encode()):08x}"


def health_check(service: Object) -> dict[str, str]:
    """A node that has none of the Service's pods says so on its own port, if traffic is to stay on the node."""
    spec = service["spec"]
    if spec.get("externalTrafficPolicy") == "Local" and spec.get("healthCheckNodePort"):
        number = str(spec["healthCheckNodePort"])
        return {"HealthCheckProtocol": "HTTP", "HealthCheckPort": number, "HealthCheckPath": "/healthz"}
    return {"HealthCheckProtocol": "TCP", "HealthCheckPort": "traffic-port"}
