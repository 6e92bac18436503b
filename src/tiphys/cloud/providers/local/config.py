"""The file of ``--cloud-config`` for ``--cloud-provider=local``, as JSON: where this machine's cluster and disks are.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/cloud-controller-manager/ (--cloud-config)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path

from tiphys.api.meta.addresspools import AddressPool, parse_pool
from tiphys.runtime.component import CannotStart, read_file


@dataclass(frozen=True, slots=True)
class LocalConfig:
    """Every field has a default: without a file this machine's cluster is that of ``tiphys up``."""

    data_dir: str = "/var/lib/tiphys"
    """The folder of the cluster whose nodes are the machines."""
    folder: str = ""
    """Where disks and load balancers are kept; empty: ``cloud`` below ``data_dir``."""
    pool: str = ""
    """Addresses of load balancers, as ``--load-balancer-pool`` has them; empty: no load balancers."""
    machine: dict[str, str] = field(default_factory=dict)
    """Capacity that a new machine is taken to have: ``cpu``, ``memory``, ``pods``; others as the first node has it."""

    @property
    def place(self) -> Path:
        return Path(self.folder) if self.folder else Path(self.data_dir) / "cloud"

    @property
    def addresses(self) -> AddressPool | None:
        return parse_pool(self.pool) if self.pool else None


def read_config(path: Path | None) -> LocalConfig:
    """Raises ``CannotStart``, which names the field."""
    if path is None:
        return LocalConfig()
    try:
        document = json.loads(read_file(path, "--cloud-config"))
    except ValueError as error:
        raise CannotStart(f"{path} is not JSON: {error}") from error
    known = {one.name: dict if one.name == "machine" else str for one in fields(LocalConfig)}
    if not isinstance(document, dict):
        raise CannotStart(f"{path}: it has to be an object with the fields {', '.join(known)}")
    for name, value in document.items():
        if name not in known:
            raise CannotStart(f"{path}: {name} is not known; there are {', '.join(known)}")
        if not isinstance(value, known[name]):
            raise CannotStart(f"{path}: {name} has to be {'an object' if known[name] is dict else 'a text'}")
    config = LocalConfig(**document)
    try:
        config.addresses  # noqa: B018 - whether it can be read
    except ValueError as error:
        raise CannotStart(f"{path}: pool: {error}") from error
    return config
