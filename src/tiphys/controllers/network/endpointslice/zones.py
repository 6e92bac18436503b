"""What hints by processors follow: the zones' shares as nodes come, go and change, and which Services have such hints.

After a change of the shares those Services are looked at again that have too few endpoints in a zone now. Source:
KEP-2433 (topology aware routing).
"""

from __future__ import annotations

from collections.abc import Mapping

from tiphys.api.object import Object
from tiphys.client.informer import Callbacks, Informer
from tiphys.controlkit.queue import WorkQueue
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.network.endpointslice import topology
from tiphys.controllers.network.endpointslice.topology import Hinting, Zones

_ALL = "all"
"""The one key of the queue: many changes of nodes are one look at the Services."""


class ZoneFollower:
    """Enqueues overloaded Services in ``services``."""

    def __init__(self, context: ControllerContext, nodes: Informer, services: WorkQueue[str]) -> None:
        self._nodes, self._services = nodes, services
        self._hinted: dict[str, Mapping[str, Zones]] = {}
        """By Service and IP family."""
        self._shares: Mapping[str, float] | None = None
        self._is_current = False
        self._controller = context.controller("endpoint_slice_topology", self._recheck)
        changed = Callbacks(changed=self._changed, updated=self._updated)
        self._controller.handles(nodes, changed)

    async def run(self) -> None:
        await self._controller.run()

    def hinting(self, service: str) -> Hinting:
        """What the plan of a Service needs to know."""
        return Hinting(self._current_shares(), was_hinted=service in self._hinted)

    def note(self, service: str, hinted: Mapping[str, Zones]) -> None:
        """Remember the hints that the Service has, none for a Service that is gone."""
        if hinted:
            self._hinted[service] = hinted
        else:
            self._hinted.pop(service, None)

    def _changed(self, _: Object) -> None:
        self._is_current = False
        self._controller.queue.add(_ALL)

    def _updated(self, old: Object, new: Object) -> None:
        if topology.moves_shares(old, new):
            self._changed(new)

    def _current_shares(self) -> Mapping[str, float] | None:
        if not self._is_current:
            self._shares, self._is_current = topology.zone_shares(self._nodes.store.list()), True
        return self._shares

    async def _recheck(self, _: str) -> None:
        shares = self._current_shares()
        for service, families in self._hinted.items():
            if any(topology.is_overloaded(zones, shares) for zones in families.values()):
                self._services.add(service)
