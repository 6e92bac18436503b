"""The machines that a cluster runs on as its own cloud: it has load balancers, and nothing else of a cloud.

`tiphys up` runs the service controller over it.

Source: https://kubernetes.io/docs/concepts/services-networking/service/#loadbalancer
"""

from __future__ import annotations

from collections.abc import Mapping

from tiphys.api.meta.addresspools import AddressPool
from tiphys.client.rest import Client
from tiphys.cloud.provider import LoadBalancers
from tiphys.cloud.providers.local.balancers import NodeBalancers, PoolBalancers


class NodesAsCloud:
    """``pool``: the addresses of load balancers; None for the nodes' own, but for their ports ``reserved``."""

    name = "nodes"
    instances = None
    routes = None
    volumes = None
    machines = None

    def __init__(self, client: Client, pool: AddressPool | None, reserved: Mapping[int, str]) -> None:
        self.load_balancers: LoadBalancers = (
            PoolBalancers(client, pool) if pool is not None else NodeBalancers(client, reserved)
        )

    async def close(self) -> None:
        """Nothing is open."""
