"""The table of the cloud's controllers, and the providers that are known by name.

A row has the name by which ``--controllers`` knows it, and how it is made: None if the cloud has nothing for it to do.

Source: https://kubernetes.io/docs/tasks/administer-cluster/running-cloud-controller/
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from tiphys.cloud.context import CloudContext
from tiphys.cloud.controllers.lifecycle import CloudNodeLifecycleController
from tiphys.cloud.controllers.node import CloudNodeController
from tiphys.cloud.controllers.route import RouteController
from tiphys.cloud.controllers.service import ServiceController
from tiphys.cloud.provider import CloudProvider
from tiphys.controlkit.manager import Runnable
from tiphys.runtime import extensions
from tiphys.runtime.component import CannotStart

log = logging.getLogger(__name__)

ENTRY_POINTS = "tiphys.cloud"
PROVIDERS: Mapping[str, str] = {
    "ec2": "tiphys.cloud.providers.ec2.cloud:Ec2Cloud",
    "libcloud": "tiphys.cloud.providers.libcloud.cloud:LibcloudCloud",
    "local": "tiphys.cloud.providers.local.cloud:make_local",
}
"""Ours, by name: ``module:factory``. A factory takes the file of ``--cloud-config``, or None."""

MISSING = ("node-ipam-controller",)
ALIASES = {
    "cloud-node": "cloud-node-controller",
    "cloud-node-lifecycle": "cloud-node-lifecycle-controller",
    "service": "service-lb-controller",
    "route": "node-route-controller",
    "nodeipam": "node-ipam-controller",
}


def _node(context: CloudContext) -> Runnable | None:
    instances = context.cloud.instances
    return None if instances is None else CloudNodeController(context, instances)


def _lifecycle(context: CloudContext) -> Runnable | None:
    instances = context.cloud.instances
    return None if instances is None else CloudNodeLifecycleController(context, instances)


def _services(context: CloudContext) -> Runnable | None:
    balancers = context.cloud.load_balancers
    return None if balancers is None else ServiceController(context, balancers)


def _routes(context: CloudContext) -> Runnable | None:
    config, routes = context.config, context.cloud.routes
    if not (config.allocate_node_cidrs and config.configure_cloud_routes):
        log.info("no routes are made: --allocate-node-cidrs and --configure-cloud-routes are not both on")
        return None
    return None if routes is None else RouteController(context, routes)


CONTROLLERS: Mapping[str, Callable[[CloudContext], Runnable | None]] = {
    "cloud-node-controller": _node,
    "cloud-node-lifecycle-controller": _lifecycle,
    "service-lb-controller": _services,
    "node-route-controller": _routes,
}


def make_provider(name: str, config: Path | None) -> CloudProvider:
    """The provider that ``--cloud-provider`` names: one of ours, an entry point, or ``module:factory``.

    Raises ``CannotStart``.
    """
    if not name:
        raise CannotStart("--cloud-provider is needed: a name, or module:factory")
    try:
        if ":" in name:
            factory = extensions.load(name)
        elif name in PROVIDERS:
            factory = extensions.load(PROVIDERS[name])
        else:
            factory = extensions.entry_point(ENTRY_POINTS, name)
    except extensions.ExtensionError as error:
        raise CannotStart(f"--cloud-provider: {error}") from error
    if factory is None:
        known = ", ".join(sorted(PROVIDERS)) or "none"
        raise CannotStart(f"--cloud-provider {name} is not known; there are: {known}, or name yours as module:factory")
    made: CloudProvider = factory(config)
    return made
