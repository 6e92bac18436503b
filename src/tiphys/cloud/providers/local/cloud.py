"""``--cloud-provider=local``: this machine is the cloud, and the nodes that ``tiphys node`` makes are its machines.

Source: https://kubernetes.io/docs/concepts/architecture/cloud-controller/
"""

from __future__ import annotations

from pathlib import Path

from tiphys.cloud.provider import LoadBalancers
from tiphys.cloud.providers.local.config import LocalConfig, read_config
from tiphys.cloud.providers.local.hosts import CommandHosts, Hosts
from tiphys.cloud.providers.local.instances import LocalInstances, LocalMachines
from tiphys.cloud.providers.local.proxied import ProxiedBalancers
from tiphys.cloud.providers.local.volumes import FileVolumes


class LocalCloud:
    name = "local"
    routes = None
    """Each node's proxy keeps its own."""

    def __init__(self, config: LocalConfig, hosts: Hosts | None = None) -> None:
        hosts = hosts or CommandHosts(config.data_dir)
        self.instances = LocalInstances(hosts)
        self.machines = LocalMachines(hosts, config.machine)
        self.volumes = FileVolumes(config.place / "disks")
        self._proxied = None
        if (pool := config.addresses) is not None:
            self._proxied = ProxiedBalancers(pool, config.place / "balancers")
        self.load_balancers: LoadBalancers | None = self._proxied

    async def close(self) -> None:
        if self._proxied is not None:
            await self._proxied.close()


def make_local(path: Path | None) -> LocalCloud:
    """``path`` is that of ``--cloud-config``. Raises ``CannotStart``."""
    return LocalCloud(read_config(path))
