"""``MetricsHandler``: the API ``metrics.k8s.io/v1beta1`` over what the scraper keeps, and health.

Source: https://github.com/kubernetes-sigs/metrics-server and
https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tiphys.addons.aggregated import admit, answered, json_response
from tiphys.addons.metricsserver import views
from tiphys.addons.metricsserver.usage import Rate, Usage
from tiphys.api import errors
from tiphys.api.meta.selectors import SelectorError, parse_label_selector
from tiphys.api.object import Object
from tiphys.client.delegated import DelegatedAccess
from tiphys.client.informer import Informer
from tiphys.runtime.clock import Clock
from tiphys.wire.health import plain
from tiphys.wire.http import Request, Response

_GROUP = "metrics.k8s.io"
_ROOT = f"/apis/{_GROUP}/v1beta1"
_OPEN = frozenset(("/healthz", "/livez", "/readyz"))
_TABLE = "as=Table"
_KINDS = {"nodes": "NodeMetrics", "pods": "PodMetrics"}


class Target(NamedTuple):
    """What a path asks for. An empty ``name`` is a list."""

    resource: str
    namespace: str = ""
    name: str = ""


class MetricsHandler:
    def __init__(
        self,
        usage: Usage,
        nodes: Informer,
        pods: Informer,
        clock: Clock,
        *,
        access: DelegatedAccess,
    ) -> None:
        self._usage = usage
        self._stores = {"nodes": nodes.store, "pods": pods.store}
        self._clock = clock
        self._access = access

    async def __call__(self, request: Request) -> Response:
        if request.path in _OPEN:
            return self._health(request.path)
        return await answered(lambda: self._admitted(request))

    async def _admitted(self, request: Request) -> Response:
        target = target_of(request.path)
        verb = "get" if target is None or target.name else "list"
        await admit(self._access, request, _attributes(request.path, target, verb))
        return self._answer(request)

    def _health(self, path: str) -> Response:
        if path == "/readyz" and not self._usage.is_ready:
            return plain(500, "[-]metric-storage-ready failed: no metrics to serve\nreadyz check failed\n")
        return plain(200, "ok")

    def _answer(self, request: Request) -> Response:
        if (document := _DOCUMENTS.get(request.path.rstrip("/"))) is not None:
            return json_response(200, document)
        target = target_of(request.path)
        if target is None:
            return plain(404, "404 page not found\n")
        wants_table = _TABLE in request.headers.get("accept", "")
        if target.name:
            return self._one(target, wants_table=wants_table)
        return self._list(target, request.parameters(), wants_table=wants_table)

    def _one(self, target: Target, *, wants_table: bool) -> Response:
        obj = self._stores[target.resource].get(target.namespace, target.name)
        measured = None if obj is None else self._measured(target.resource, obj)
        if measured is None:
            name = f"{target.namespace}/{target.name}" if target.namespace else target.name
            raise errors.not_found(_GROUP, target.resource, name)
        return self._shown(target.resource, [measured], wants_table=wants_table, plain_form=lambda items: items[0])

    def _list(self, target: Target, parameters: dict[str, list[str]], *, wants_table: bool) -> Response:
        """Raises ``StatusError`` 400 for a selector that is none."""
        try:
            selector = parse_label_selector(parameters.get("labelSelector", [""])[0])
        except SelectorError as error:
            raise errors.bad_request(str(error)) from None
        name = _exact_name(parameters.get("fieldSelector", [""])[0])
        measured = [
            row
            for obj in self._stores[target.resource].list(target.namespace or None)
            if (not name or obj["metadata"]["name"] == name)
            and selector.matches(obj["metadata"].get("labels") or {})
            and (row := self._measured(target.resource, obj)) is not None
        ]
        kind = _KINDS[target.resource]
        return self._shown(
            target.resource, measured, wants_table=wants_table, plain_form=lambda items: views.listed(kind, items)
        )

    def _measured(self, resource: str, obj: Object) -> tuple[Object, Rate] | None:
        """The metrics of a node or pod and the sum that a table shows; None if it has none."""
        meta, now = obj["metadata"], self._clock.now()
        if resource == "nodes":
            rate = self._usage.node(meta["name"])
            return None if rate is None else (views.node_metrics(obj, rate, now), rate)
        rates = self._usage.pod(meta["namespace"], meta["name"])
        return None if rates is None else (views.pod_metrics(obj, rates, now), _sum(rates.values()))

    def _shown(
        self,
        resource: str,
        measured: list[tuple[Object, Rate]],
        plain_form: Callable[[list[Object]], Object],
        *,
        wants_table: bool,
    ) -> Response:
        items = [item for item, _ in measured]
        if wants_table:
            return json_response(200, views.table(_KINDS[resource], items, [rate for _, rate in measured]))
        return json_response(200, plain_form(items))


_DOCUMENTS: dict[str, Object] = {
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [views.GROUP]},
    f"/apis/{_GROUP}": views.GROUP,
    _ROOT: views.RESOURCES,
}


def target_of(path: str) -> Target | None:
    """None for a path that is not about metrics of nodes or pods."""
    if not path.startswith(f"{_ROOT}/"):
        return None
    match path.removeprefix(f"{_ROOT}/").rstrip("/").split("/"):
        case ["nodes"]:
            return Target("nodes")
        case ["nodes", name]:
            return Target("nodes", name=name)
        case ["pods"]:
            return Target("pods")
        case ["namespaces", namespace, "pods"]:
            return Target("pods", namespace)
        case ["namespaces", namespace, "pods", name]:
            return Target("pods", namespace, name)
    return None


def _attributes(path: str, target: Target | None, verb: str) -> dict[str, str]:
    if target is None:
        return {"path": path, "verb": verb}
    named = {"namespace": target.namespace, "name": target.name}
    about = {"verb": verb, "group": _GROUP, "version": "v1beta1", "resource": target.resource}
    return about | {key: value for key, value in named.items() if value}


def _sum(rates: Iterable[Rate]) -> Rate:
    rows = list(rates)
    return Rate(rows[0].timestamp, rows[0].window, sum(r.cpu for r in rows), sum(r.memory for r in rows))


def _exact_name(selector: str) -> str:
    """The name in ``metadata.name=NAME``, the only field selector there is. Raises ``StatusError`` 400."""
    field, _, name = selector.partition("=")
    if selector and field != "metadata.name":
        raise errors.bad_request(f"field selector {selector!r} is not supported; use metadata.name=NAME")
    return name.removeprefix("=")
