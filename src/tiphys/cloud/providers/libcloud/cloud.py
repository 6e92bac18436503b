"""``--cloud-provider=libcloud``: nodes of EC2, OpenStack, GCE, Azure, DigitalOcean and the rest, by Apache Libcloud.

Machines alone: what Libcloud knows of load balancers, routes and disks differs from cloud to cloud.

Source: https://libcloud.readthedocs.io/en/stable/compute/api.html
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tiphys.api.meta.objects import name_of
from tiphys.api.object import Object
from tiphys.cloud.provider import CloudError, InstanceMetadata
from tiphys.runtime.component import CannotStart, read_file

_SCHEME = "libcloud://"
_GONE = {"terminated", "error"}
_STOPPED = {"stopped", "stopping", "suspended", "paused"}
_NAMES = ("private_dns", "hostname", "dns_name")
"""Where clouds keep a machine's name beside its own, in what Libcloud calls ``extra``."""
_ZONES = ("availability", "availability_zone", "zone", "region")


@dataclass(frozen=True, slots=True)
class LibcloudConfig:
    """The file of ``--cloud-config``, as JSON."""

    provider: str
    """Libcloud's name of the cloud: ``ec2``, ``openstack``, ``gce``, ``azure_arm``, ``digitalocean``, …"""
    arguments: dict[str, Any] = field(default_factory=dict)
    """What its driver is made with, by name: ``region``, ``project``, ``ex_force_auth_url``, …"""
    secrets: dict[str, str] = field(default_factory=dict)
    """Further arguments, whose values are in the environment under these names: ``{"key": "CLOUD_KEY"}``."""
    region: str = ""
    """Shown as the nodes' region; empty: the argument ``region``."""


def read_config(path: Path | None) -> LibcloudConfig:
    """Raises ``CannotStart``, which names the field."""
    if path is None:
        raise CannotStart('--cloud-config is needed: a JSON file such as {"provider": "openstack", "arguments": {…}}')
    try:
        document = json.loads(read_file(path, "--cloud-config"))
    except ValueError as error:
        raise CannotStart(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("provider"), str):
        raise CannotStart(f"{path}: provider is needed, such as ec2 or openstack")
    known = [one.name for one in fields(LibcloudConfig)]
    if unknown := sorted(document.keys() - set(known)):
        raise CannotStart(f"{path}: {unknown[0]} is not known; there are {', '.join(known)}")
    for name in ("arguments", "secrets"):
        if not isinstance(document.get(name, {}), dict):
            raise CannotStart(f"{path}: {name} has to be an object")
    return LibcloudConfig(**document)


class LibcloudCloud:
    name = "libcloud"
    load_balancers = None
    routes = None
    volumes = None
    machines = None

    def __init__(self, path: Path | None) -> None:
        """``path`` is that of ``--cloud-config``. Raises ``CannotStart``."""
        config = read_config(path)
        self.instances = LibcloudInstances(_driver(config), config)

    async def close(self) -> None:
        """Libcloud keeps nothing open that a program's end would not close."""


def _driver(config: LibcloudConfig) -> Any:
    try:
        from libcloud.compute.providers import get_driver
    except ImportError as error:
        install = "pip install 'tiphys[libcloud]'"
        raise CannotStart(f"--cloud-provider=libcloud needs apache-libcloud; install it: {install}") from error
    if missing := [name for name in config.secrets.values() if name not in os.environ]:
        raise CannotStart(f"--cloud-config: secrets names {missing[0]}, which is not in the environment")
    arguments = config.arguments | {name: os.environ[variable] for name, variable in config.secrets.items()}
    try:
        return get_driver(config.provider)(**arguments)
    except AttributeError as error:
        raise CannotStart(f"--cloud-config: Libcloud has no provider {config.provider}") from error
    except (TypeError, ValueError) as error:
        raise CannotStart(f"--cloud-config: arguments of {config.provider}: {error}") from error


class LibcloudInstances:
    """Libcloud waits for the network and is not made for several threads: one call at a time, in a thread."""

    def __init__(self, driver: Any, config: LibcloudConfig) -> None:
        self._driver, self._config = driver, config
        self._lock = threading.Lock()
        self._looking: asyncio.Task[list[Any]] | None = None

    async def exists(self, node: Object) -> bool:
        return await self._find(node) is not None

    async def is_shut_down(self, node: Object) -> bool:
        machine = await self._find(node)
        return machine is not None and state_of(machine) in _STOPPED

    async def metadata(self, node: Object) -> InstanceMetadata | None:
        """Raises ``CloudError`` if there is no such machine."""
        machine = await self._find(node)
        if machine is None:
            raise CloudError(f"{self._config.provider} has no machine for node {name_of(node)}")
        extra: Mapping[str, Any] = machine.extra or {}
        zone = next((str(extra[name]) for name in _ZONES if extra.get(name)), "")
        size = getattr(machine.size, "id", None) or extra.get("instance_type") or extra.get("flavorId") or ""
        region = self._config.region or str(self._config.arguments.get("region", ""))
        return InstanceMetadata(self._identity(machine), str(size), addresses(machine), zone, region)

    def _identity(self, machine: Any) -> str:
        return f"{_SCHEME}{self._config.provider}/{machine.id}"

    async def _find(self, node: Object) -> Any:
        """The node's machine, unless it has ended. Raises ``CloudError``."""
        identity = str(node["spec"].get("providerID") or "")
        own = f"{_SCHEME}{self._config.provider}/"
        if identity and not identity.startswith(own):
            raise CloudError(f"{identity} is not the id of a machine of {self._config.provider}; it begins with {own}")
        alive = [machine for machine in await self._machines() if state_of(machine) not in _GONE]
        if identity:
            return next((machine for machine in alive if self._identity(machine) == identity), None)
        return next((machine for machine in alive if name_of(node) in names(machine)), None)

    async def _machines(self) -> list[Any]:
        """All of them: many clouds have no other question. Who asks together is given one answer."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._call(self._driver.list_nodes))
        return await asyncio.shield(self._looking)

    async def _call(self, work: Callable[[], list[Any]]) -> list[Any]:
        def alone() -> list[Any]:
            with self._lock:
                return work()

        try:
            return await asyncio.to_thread(alone)
        except Exception as error:  # drivers raise whatever their clouds' libraries do
            words = " ".join(str(error).split())[:500]
            raise CloudError(f"{self._config.provider}: {words or type(error).__name__}") from error


def state_of(machine: Any) -> str:
    """Libcloud's ``NodeState``: ``running``, ``stopped``, ``terminated``, …"""
    return str(getattr(machine.state, "value", machine.state)).lower()


def names(machine: Any) -> set[str]:
    """What a node on this machine may be called."""
    extra: Mapping[str, Any] = machine.extra or {}
    return {str(name) for name in (machine.name, *(extra.get(key) for key in _NAMES)) if name}


def addresses(machine: Any) -> list[Object]:
    shown = [("InternalIP", text) for text in machine.private_ips or ()]
    shown += [("ExternalIP", text) for text in machine.public_ips or ()]
    hostname = next((str(machine.extra[key]) for key in _NAMES if (machine.extra or {}).get(key)), machine.name)
    shown += [("Hostname", hostname)] if hostname else []
    return [{"type": kind, "address": str(text)} for kind, text in shown if text]
