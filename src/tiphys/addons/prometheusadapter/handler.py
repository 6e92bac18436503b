"""``AdapterHandler``: the APIs ``custom.metrics.k8s.io`` and ``external.metrics.k8s.io`` over Prometheus, and health.

A request goes: whose, and may they → what its path asks for → which source has it → of which objects → the question →
the values. Source: https://github.com/kubernetes/design-proposals-archive/blob/main/instrumentation/custom-metrics-api.md
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

from tiphys.addons.aggregated import admit, answered, json_response
from tiphys.addons.prometheusadapter import views
from tiphys.addons.prometheusadapter.catalog import Catalog, MetricSource
from tiphys.addons.prometheusadapter.prometheus import Prometheus, PrometheusError, Sample
from tiphys.addons.prometheusadapter.promql import CannotAsk, query
from tiphys.addons.prometheusadapter.rules import NAMESPACES
from tiphys.addons.prometheusadapter.views import CUSTOM, EXTERNAL
from tiphys.api import errors
from tiphys.api.meta.selectors import Selector, SelectorError, parse_label_selector
from tiphys.api.object import Object
from tiphys.client.delegated import DelegatedAccess
from tiphys.client.rest import Client
from tiphys.controlkit.discovery import ServedResource
from tiphys.wire.health import plain
from tiphys.wire.http import Request, Response

log = logging.getLogger(__name__)

_OPEN = frozenset(("/healthz", "/livez", "/readyz"))
_PAGE = 500
_MOST_OBJECTS = 5000


class MetricTarget(NamedTuple):
    """What a path asks for. ``name`` is ``*`` for all objects that a selector chooses; empty for an external metric."""

    group: str
    version: str
    about: tuple[str, str]
    """Group and plural of the objects."""
    namespace: str
    name: str
    metric: str

    def attributes(self) -> dict[str, str]:
        """In the API server's reading of the path: a metric is a subresource of its objects."""
        where = {"group": self.group, "version": self.version} | (
            {"namespace": self.namespace} if self.namespace else {}
        )
        if self.group == EXTERNAL:
            return where | {"verb": "list", "resource": self.metric}
        if self.about == NAMESPACES:
            return where | {"verb": "get", "resource": "metrics", "name": self.metric, "namespace": self.name}
        resource = ".".join(filter(None, (self.about[1], self.about[0])))
        return where | {"verb": "get", "resource": resource, "name": self.name, "subresource": self.metric}


def target_of(path: str) -> MetricTarget | None:
    """None for a path that is about no metric."""
    match [unquote(word) for word in path.strip("/").split("/")]:
        case ["apis", "external.metrics.k8s.io", "v1beta1", "namespaces", namespace, metric]:
            return MetricTarget(EXTERNAL, "v1beta1", ("", ""), namespace, "", metric)
        case ["apis", "custom.metrics.k8s.io", ("v1beta1" | "v1beta2") as version, *rest]:
            match rest:
                case ["namespaces", namespace, "metrics", metric]:
                    return MetricTarget(CUSTOM, version, NAMESPACES, "", namespace, metric)
                case ["namespaces", namespace, resource, name, metric]:
                    return MetricTarget(CUSTOM, version, _about(resource), namespace, name, metric)
                case [resource, name, metric] if resource != "namespaces":
                    return MetricTarget(CUSTOM, version, _about(resource), "", name, metric)
    return None


def _about(resource: str) -> tuple[str, str]:
    plural, _, group = resource.partition(".")
    return group, plural


class AdapterHandler:
    def __init__(
        self, catalog: Callable[[], Catalog | None], prometheus: Prometheus, client: Client, access: DelegatedAccess
    ) -> None:
        self._catalog = catalog
        self._prometheus = prometheus
        self._client = client
        self._access = access

    async def __call__(self, request: Request) -> Response:
        if request.path in _OPEN:
            return self._health(request.path)
        return await answered(lambda: self._admitted(request))

    def _health(self, path: str) -> Response:
        if path == "/readyz" and self._catalog() is None:
            return plain(500, "[-]metrics-known failed: Prometheus has not been asked yet\nreadyz check failed\n")
        return plain(200, "ok")

    async def _admitted(self, request: Request) -> Response:
        target = target_of(request.path)
        about = {"path": request.path, "verb": "get"} if target is None else target.attributes()
        await admit(self._access, request, about)
        catalog = self._catalog()
        if catalog is None:
            raise errors.service_unavailable("which metrics there are is not known yet: Prometheus did not answer")
        if target is None:
            document = _document(request.path.rstrip("/"), catalog)
            return plain(404, "404 page not found\n") if document is None else json_response(200, document)
        if target.group == EXTERNAL:
            return json_response(200, await self._external(target, catalog, request))
        return json_response(200, await self._custom(target, catalog, request))

    async def _external(self, target: MetricTarget, catalog: Catalog, request: Request) -> Object:
        source = catalog.external.get(target.metric)
        if source is None:
            raise _no_metric(target)
        samples = await self._ask(source, target.namespace, (), _selector(request, "labelSelector"))
        return views.external_list(target.metric, samples)

    async def _custom(self, target: MetricTarget, catalog: Catalog, request: Request) -> Object:
        """A list of values. Raises ``StatusError``: 404 for a metric or kind that is not there, 400 for a selector."""
        source, resource = catalog.custom.get((target.about, target.metric)), catalog.resources.get(target.about)
        if source is None or resource is None or resource.path.namespaced != bool(target.namespace):
            raise _no_metric(target)
        narrowed = _selector(request, "metricLabelSelector")
        is_list = target.name == "*"
        names = [target.name]
        if is_list:
            names = await self._names(resource, target.namespace, str(_selector(request, "labelSelector")))
        values: dict[str, Sample] = {}
        for start in range(0, len(names), _PAGE):
            asked = names[start : start + _PAGE]
            samples = await self._ask(source, target.namespace, asked, narrowed)
            values |= {sample.labels.get(source.label, ""): sample for sample in samples}
        if not is_list and target.name not in values:
            raise _no_metric(target)
        items = [
            views.custom_value(target.version, resource, target.namespace, name, target.metric, values[name])
            for name in names
            if name in values
        ]
        return views.custom_list(target.version, items)

    async def _names(self, resource: ServedResource, namespace: str, selector: str) -> list[str]:
        """Of the objects that a selector chooses. Raises ``StatusError`` 413 for more than 5,000."""
        client, names, page = self._client.metadata_only(), list[str](), ""
        while True:
            answer = await client.list(resource.path, namespace, label_selector=selector, limit=_PAGE, continue_=page)
            names += [item["metadata"]["name"] for item in answer.get("items") or ()]
            page = answer["metadata"].get("continue") or ""
            if not page:
                return names
            if len(names) >= _MOST_OBJECTS:
                message = f"more than {_MOST_OBJECTS} {resource.path.plural} match; narrow it by labelSelector"
                raise errors.request_entity_too_large(message)

    async def _ask(
        self, source: MetricSource, namespace: str, names: tuple[str, ...] | list[str], selector: Selector
    ) -> list[Sample]:
        try:
            question = query(source, namespace, names, selector)
        except CannotAsk as error:
            raise errors.bad_request(str(error)) from error
        try:
            return await self._prometheus.query(question)
        except PrometheusError as error:
            log.warning("unable to fetch metrics from prometheus: %s: %s", question[:200], error)
            raise errors.internal("unable to fetch metrics") from error


def _selector(request: Request, name: str) -> Selector:
    try:
        return parse_label_selector(request.parameters().get(name, [""])[0])
    except SelectorError as error:
        raise errors.bad_request(str(error)) from None


def _no_metric(target: MetricTarget) -> errors.StatusError:
    kind = ".".join(filter(None, (target.about[1], target.about[0]))) or "namespaces"
    which = "" if target.name in ("*", "") else f" {target.name}"
    message = f"the server could not find the metric {target.metric} for {kind}{which}"
    return errors.StatusError(errors.status(404, "NotFound", message))


def _document(path: str, catalog: Catalog) -> Object | None:
    match path.strip("/").split("/"):
        case ["apis"]:
            return views.groups()
        case ["apis", name] if name in views.VERSIONS:
            return views.group(name)
        case ["apis", name, version] if version in views.VERSIONS.get(name, ()):
            return views.resources(name, version, catalog)
    return None
