"""``--cloud-provider=ec2``.

Source: https://cloud-provider-aws.sigs.k8s.io/
"""

from __future__ import annotations

from pathlib import Path

from tiphys.cloud.providers.ec2.balancers import Ec2LoadBalancers
from tiphys.cloud.providers.ec2.instances import Ec2Instances
from tiphys.cloud.providers.ec2.routes import Ec2Routes
from tiphys.cloud.providers.ec2.session import Session, read_config
from tiphys.cloud.providers.ec2.volumes import Ec2Volumes


class Ec2Cloud:
    name = "ec2"
    machines = None

    def __init__(self, path: Path | None) -> None:
        """``path`` is that of ``--cloud-config``. Raises ``CannotStart``."""
        config = read_config(path)
        self._session = Session(config)
        self.instances = Ec2Instances(self._session, config)
        self.volumes = Ec2Volumes(self._session, config, self.instances)
        self.load_balancers = Ec2LoadBalancers(self._session, config)
        self.routes = Ec2Routes(self._session, config)

    async def close(self) -> None:
        await self._session.close()
