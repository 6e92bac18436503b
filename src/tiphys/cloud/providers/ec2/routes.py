"""Routes to pods: entries of a route table whose target is a node's instance.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateRoute.html
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.cloud.provider import CloudError, Route
from tiphys.cloud.providers.ec2.session import Answer, Ec2Config, Session


class Ec2Routes:
    """Nodes are known to the table by their instances' private DNS names."""

    def __init__(self, session: Session, config: Ec2Config) -> None:
        self._session, self._config = session, config

    async def list(self, cluster: str) -> Sequence[Route]:
        table = await self._table()
        rows = [row for row in table["Routes"] if row.get("InstanceId") or row.get("State") == "blackhole"]
        names = await self._names([row["InstanceId"] for row in rows if row.get("InstanceId")])
        return [
            Route(
                name=f"{table['RouteTableId']}/{_cidr(row)}",
                node=names.get(row.get("InstanceId", ""), ""),
                cidr=_cidr(row),
                blackhole=row.get("State") == "blackhole",
            )
            for row in rows
        ]

    async def create(self, cluster: str, hint: str, route: Route) -> None:
        """The instance lets through what is not its own from then on. Raises ``CloudError``."""
        named = [{"Name": "private-dns-name", "Values": [route.node]}]
        reservations = await self._session.every("ec2", "describe_instances", "Reservations", Filters=named)
        instance = next((one for reservation in reservations for one in reservation["Instances"]), None)
        if instance is None:
            raise CloudError(f"there is no instance for node {route.node}")
        identity, table = instance["InstanceId"], await self._table()
        await self._session.call(
            "ec2", "modify_instance_attribute", InstanceId=identity, SourceDestCheck={"Value": False}
        )
        place = {"RouteTableId": table["RouteTableId"], _field(route.cidr): route.cidr}
        await self._session.call("ec2", "create_route", **place, InstanceId=identity)

    async def delete(self, cluster: str, route: Route) -> None:
        table = await self._table()
        place = {"RouteTableId": table["RouteTableId"], _field(route.cidr): route.cidr}
        await self._session.call("ec2", "delete_route", **place)

    async def _table(self) -> Answer:
        config = self._config
        if config.route_table:
            chosen: Answer = {"RouteTableIds": [config.route_table]}
        else:
            vpc = [{"Name": "vpc-id", "Values": [config.vpc]}] if config.vpc else []
            chosen = {"Filters": [{"Name": "association.main", "Values": ["true"]}, *vpc]}
        tables = await self._session.every("ec2", "describe_route_tables", "RouteTables", **chosen)
        if len(tables) != 1:
            raise CloudError(f"{len(tables)} route tables match; name one as route_table in the file of --cloud-config")
        return tables[0]

    async def _names(self, identities: Sequence[str]) -> dict[str, str]:
        if not identities:
            return {}
        chosen = [{"Name": "instance-id", "Values": sorted(set(identities))}]
        reservations = await self._session.every("ec2", "describe_instances", "Reservations", Filters=chosen)
        return {
            one["InstanceId"]: one["PrivateDnsName"] for reservation in reservations for one in reservation["Instances"]
        }


def _cidr(row: Answer) -> str:
    return str(row.get("DestinationCidrBlock") or row.get("DestinationIpv6CidrBlock") or "")


def _field(cidr: str) -> str:
    return "DestinationIpv6CidrBlock" if ":" in cidr else "DestinationCidrBlock"
