"""Finds again and again which metrics there are: asks Prometheus for the series of each rule, and makes a catalog."""

from __future__ import annotations

import asyncio
import logging

from tiphys.addons.prometheusadapter import catalog as catalogs
from tiphys.addons.prometheusadapter.catalog import Catalog, Labels
from tiphys.addons.prometheusadapter.prometheus import Prometheus, PrometheusError
from tiphys.addons.prometheusadapter.rules import MetricRule, Rules
from tiphys.client.errors import ApiError
from tiphys.client.rest import Client
from tiphys.controlkit.discovery import ServedResource, discover
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

_RETRY_SECONDS = 10.0
_SLICE = 1000
"""So many series are read before others have a turn."""


class Relister:
    """``catalog`` is the newest one, None before the first. Times in seconds."""

    def __init__(
        self, rules: Rules, prometheus: Prometheus, client: Client, clock: Clock, *, interval: float, max_age: float
    ) -> None:
        self._rules = rules
        self._prometheus = prometheus
        self._client = client
        self._clock = clock
        self._interval = interval
        self._max_age = max_age
        self.catalog: Catalog | None = None

    async def run(self) -> None:
        """Look every ``interval``, until cancelled; the catalog before stays if that fails."""
        while True:
            wait = self._interval
            try:
                self.catalog = await self.look()
            except (PrometheusError, ApiError, OSError, TimeoutError) as error:
                log.warning("cannot find out which metrics there are: %s", str(error) or type(error).__name__)
                wait = min(wait, _RETRY_SECONDS)
            await self._clock.sleep(wait)

    async def look(self) -> Catalog:
        """A catalog of now. Raises ``PrometheusError``, ``ApiError``, ``ConnectionError`` and ``TimeoutError``."""
        served = (await discover(self._client)).resources
        made = Catalog(resources={catalogs.resource_key(each): each for each in served})
        for rule in self._rules.custom:
            await self._add(made, rule, served, is_external=False)
        for rule in self._rules.external:
            await self._add(made, rule, served, is_external=True)
        return made

    async def _add(
        self, made: Catalog, rule: MetricRule, served: tuple[ServedResource, ...], *, is_external: bool
    ) -> None:
        labels = Labels(rule, served)
        for group, resource in labels.unknown:
            log.warning(
                "a rule for %s is about %s, which the cluster does not serve", rule.series_query, f"{resource}.{group}"
            )
        add = catalogs.add_external if is_external else catalogs.add_custom
        now = self._clock.now()
        for index, series in enumerate(await self._prometheus.series(rule.series_query, now - self._max_age, now)):
            if index % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            add(made, rule, labels, series)
