"""What the servers behind serve, as they said last: for discovery and OpenAPI.

They are asked whenever their availability is looked at. What one said stays, marked as stale in discovery, while it
does not answer; a document that cannot be read leaves the others as they are.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from tiphys.api.object import Object
from tiphys.apiserver.aggregator.asking import Asking, NoAnswer, RemoteAnswer
from tiphys.apiserver.aggregator.merging import discovered, of_version, part_of
from tiphys.apiserver.aggregator.services import GroupVersion, Remote, RemoteServices
from tiphys.apiserver.aside import aside
from tiphys.apiserver.bootstrap.apiservices import GROUP, PRIORITIES

log = logging.getLogger(__name__)

_PRIORITIES = {GROUP: 2**31, **PRIORITIES}
"""The group of APIServices, of which there is no APIService, comes first."""
_JSON = "application/json"
_AGGREGATED = f"{_JSON};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_PASSED_ON = (
    "content-type",
    "etag",
    "last-modified",
    "cache-control",
    "expires",
    "vary",
    "location",
    "content-encoding",
)


@dataclass(slots=True)
class _Known:
    """What one server said. ``tag`` is the entity tag of its OpenAPI v2 document."""

    resources: list[Object] = field(default_factory=list)
    fresh: bool = False
    address: str = ""
    """Where its OpenAPI v3 document is, with the hash that names its content."""
    spec: Object | None = None
    tag: str = ""


class RemoteDocuments:
    """``changed`` is called when the OpenAPI v2 document of all has become another."""

    def __init__(self, services: RemoteServices, asking: Asking, changed: Callable[[], None]) -> None:
        self._services = services
        self._asking = asking
        self._changed = changed
        self._known: dict[GroupVersion, _Known] = {}

    # -- what is shown

    def groups(self, local: dict[str, list[str]]) -> dict[str, list[str]]:
        """All groups with their versions."""
        return self._services.groups(local, _PRIORITIES)

    def version(self, group: str, version: str) -> Object | None:
        """A version of a group as aggregated discovery shows it; None: it is served here."""
        if (group, version) not in self._services.current():
            return None
        known = self._known.get((group, version), _Known())
        resources = {"resources": known.resources} if known.resources else {}
        return {"version": version, **resources, "freshness": "Current" if known.fresh else "Stale"}

    def specs(self) -> list[Object]:
        """The parts of OpenAPI v2 documents that belong to what is served elsewhere."""
        current = self._services.current()
        return [known.spec for key, known in sorted(self._known.items()) if key in current and known.spec is not None]

    def addresses(self) -> dict[str, str]:
        """Where the OpenAPI v3 documents are, by their names in the index."""
        current = self._services.current()
        known = ((current[key], known) for key, known in sorted(self._known.items()) if key in current)
        return {remote.path[1:]: documents.address for remote, documents in known if documents.address}

    async def read(self, name: str, accept: str, known: str, query: str) -> RemoteAnswer | None:
        """An OpenAPI v3 document from the server that it is about; None: that is this one. Raises ``NoAnswer``."""
        remote = self._services.at(f"/{name}")
        if remote is None or remote.path[1:] != name:
            return None
        answer = await self._asking.read(remote, f"/openapi/v3/{name}", accept, known, query)
        headers = type(answer.headers)({key: answer.headers[key] for key in _PASSED_ON if key in answer.headers})
        return RemoteAnswer(answer.status, headers, answer.body)

    # -- how it is kept

    async def seen(self, remote: Remote, *, answers: bool) -> None:
        """A server was looked at: ask it again if it answers."""
        known = self._known.setdefault((remote.group, remote.version), _Known())
        known.fresh = known.fresh and answers
        if not answers:
            return
        for what, read in (("discovery", self._discover), ("OpenAPI v2", self._describe), ("OpenAPI v3", self._index)):
            try:
                await read(remote, known)
            except (NoAnswer, ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("%s of API service %s cannot be read: %s", what, remote.name, error)

    def gone(self, name: str) -> None:
        """An APIService is no longer, or no longer served elsewhere."""
        current = self._services.current()
        for key in self._known.keys() - current.keys():
            del self._known[key]
        log.info("API service %s is no longer served by another server", name)
        self._changed()

    async def _discover(self, remote: Remote, known: _Known) -> None:
        known.fresh = False
        root = "/apis" if remote.group else "/api"
        answer = await self._asking.read(remote, root, f"{_AGGREGATED},{_JSON}")
        resources = None
        if answer.status == 200 and "APIGroupDiscoveryList" in answer.headers.get("content-type", ""):
            resources = of_version(orjson.loads(answer.body), remote.group, remote.version)
        if resources is None:
            answer = await self._asking.read(remote, remote.path, _JSON)
            resources = discovered(orjson.loads(_body(answer)), remote.group, remote.version)
        known.resources, known.fresh = resources, True

    async def _describe(self, remote: Remote, known: _Known) -> None:
        answer = await self._asking.read(remote, "/openapi/v2", _JSON, known.tag)
        if answer.status == 304:
            return
        spec = {} if answer.status == 404 else await aside(lambda: part_of(orjson.loads(_body(answer)), remote.path))
        known.tag = answer.headers.get("etag", "")
        if spec != known.spec:
            known.spec = spec or None
            self._changed()

    async def _index(self, remote: Remote, known: _Known) -> None:
        answer = await self._asking.read(remote, "/openapi/v3", _JSON)
        paths = {} if answer.status == 404 else orjson.loads(_body(answer)).get("paths") or {}
        known.address = (paths.get(remote.path[1:]) or {}).get("serverRelativeURL") or ""


def _body(answer: RemoteAnswer) -> bytes:
    if answer.status != 200:
        raise NoAnswer(f"status {answer.status}")
    return answer.body
