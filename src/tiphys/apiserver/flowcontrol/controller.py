"""``FlowController``: keeps the flow schemas and levels of a server as its objects say, and classifies requests.

The mandatory objects, ``exempt`` and ``catch-all``, are in force even if somebody deleted them. Every ten seconds the
levels divide the seats again. Source: https://kubernetes.io/docs/concepts/cluster-administration/flow-control/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, TypeVar

from tiphys.api.object import Object
from tiphys.apiserver.bootstrap.flowcontrol import GROUP, flow_schemas, priority_levels
from tiphys.apiserver.call import Call, User
from tiphys.apiserver.flowcontrol.demand import ADJUSTMENT_SECONDS
from tiphys.apiserver.flowcontrol.levels import PriorityLevel, adjust, limits_of, read_level
from tiphys.apiserver.flowcontrol.matching import FlowSchema, read_schema
from tiphys.apiserver.flowcontrol.sharding import flow_hash
from tiphys.apiserver.flowcontrol.work import ONE, WRITES, RequestWork, Stored, estimate, largest
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.registry import Registry
from tiphys.apiserver.requestinfo import RequestInfo
from tiphys.apiserver.storage.cacher import Cacher
from tiphys.runtime.clock import Clock
from tiphys.runtime.expiring import Expiring
from tiphys.runtime.tasks import contain

Source = TypeVar("Source")
Read = TypeVar("Read")

_MANDATORY = frozenset(("exempt", "catch-all"))
_MAX_REMEMBERED = 10_000
_SIZE_KEPT_SECONDS, _MOST_SIZES = 10.0, 1000
"""How long the size of a resource's objects counts, and of how many resources."""
_MAX_REMEMBERED_PATH = 512
"""Characters; requests with longer paths, which anybody may send, are classified each time."""


class Flow(NamedTuple):
    """Where a request belongs. ``hash`` stands for the schema and the distinguisher."""

    schema: FlowSchema
    level: PriorityLevel
    distinguisher: str
    hash: int
    key: tuple[str, str]
    """The names of level and schema."""
    headers: dict[str, str]
    """What every answer says of it."""


class FlowController:
    """``seats`` is how many requests the server carries at a time, all levels together."""

    def __init__(self, registries: Registries, clock: Clock, seats: int) -> None:
        self.levels: dict[str, PriorityLevel] = {}
        self.schemas: list[FlowSchema] = []
        self._registries = registries
        self._clock = clock
        self._sizes: Expiring[tuple[str, str], int] = Expiring(_MOST_SIZES)
        self._seats = seats
        self._sources: list[Registry] = []
        self._followed: list[tuple[Cacher, int]] = []
        """The caches of the objects, each with its generation when they were read."""
        self._flows: dict[tuple[object, ...], Flow] = {}
        self._configure([], [])

    # -- configuration

    async def run(self) -> None:
        """Redivide the seats every ten seconds, until cancelled."""
        while True:
            await self._clock.sleep(ADJUSTMENT_SECONDS)
            self.refresh()
            adjust(self.levels, self._clock.monotonic())
            self._retire()

    async def follow(self) -> None:
        """Wait until the objects can be read. Until then the mandatory ones are in force."""
        sources = [self._registries.get(GROUP, plural) for plural in ("prioritylevelconfigurations", "flowschemas")]
        for registry in sources:
            await registry.store.cacher.ready()
        self._sources = sources
        self._followed = [(registry.store.cacher, -1) for registry in sources]
        self.refresh()

    def refresh(self) -> None:
        """Take over what has changed in the objects. While their cache is being refilled, the known ones hold."""
        for cacher, generation in self._followed:
            if cacher.generation != generation:
                break
        else:
            return
        if all(cacher.is_ready for cacher, _ in self._followed):
            self._followed = [(cacher, cacher.generation) for cacher, _ in self._followed]
            self._configure(*map(_objects, self._sources))

    def _configure(self, levels: list[Object], schemas: list[Object]) -> None:
        now = self._clock.monotonic()
        configs = {config.name: config for config in _with_mandatory(read_level, levels, priority_levels())}
        for name, level in self.levels.items():
            level.quiescing = name not in configs
        leaving = {name: level.config for name, level in self.levels.items() if level.quiescing}
        limits = limits_of([*configs.values(), *leaving.values()], self._seats)
        for name, config in (configs | leaving).items():
            if name in self.levels:
                self.levels[name].config, self.levels[name].limits = config, limits[name]
            else:
                self.levels[name] = PriorityLevel(config, limits[name], now)
        adjust(self.levels, now)
        known = _with_mandatory(read_schema, schemas, flow_schemas())
        self.schemas = sorted(filter(self._is_usable, known), key=lambda schema: (schema.precedence, schema.name))
        self._flows.clear()
        self._retire()

    def _is_usable(self, schema: FlowSchema) -> bool:
        """Whether its level exists, and is to stay."""
        level = self.levels.get(schema.level)
        return level is not None and not level.quiescing

    def _retire(self) -> None:
        """Levels that are gone vanish once nothing is left in them."""
        for name in [name for name, level in self.levels.items() if level.quiescing and level.queues.is_idle]:
            del self.levels[name]

    # -- requests

    def classify(self, user: User, info: RequestInfo) -> Flow:
        """Where a request belongs; every request matches ``catch-all``."""
        self.refresh()
        key = (user.name, user.groups, info.verb, info.group, info.resource, info.subresource, info.namespace,
               "" if info.is_resource else info.path)  # fmt: skip
        flow = self._flows.get(key)
        if flow is None:
            flow = self._find(user, info)
            if len(info.path) <= _MAX_REMEMBERED_PATH:
                if len(self._flows) >= _MAX_REMEMBERED:
                    self._flows.clear()
                self._flows[key] = flow
        return flow

    def _find(self, user: User, info: RequestInfo) -> Flow:
        schema = next((schema for schema in self.schemas if schema.matches(user, info)), self.schemas[-1])
        distinguisher = schema.flow(user, info)
        level = self.levels[schema.level]
        headers = {
            "X-Kubernetes-PF-FlowSchema-UID": schema.uid,
            "X-Kubernetes-PF-PriorityLevel-UID": level.config.uid,
        }
        key = (level.config.name, schema.name)
        return Flow(schema, level, distinguisher, flow_hash(schema.name, distinguisher), key, headers)

    def work(self, call: Call, level: PriorityLevel) -> RequestWork:
        """How much of the server a call takes."""
        info = call.info
        if info.verb == "get" or (info.verb in WRITES and not self._count_watches(info)):
            return ONE
        most = largest(level.limits.nominal, level.config.queue.hand)
        return estimate(info, call.parameters, most, self._measure, self._count_watches)

    def _measure(self, group: str, resource: str) -> Stored | None:
        registry = self._registry(group, resource)
        if registry is None or not registry.store.cacher.is_ready:
            return None
        cacher, now = registry.store.cacher, self._clock.monotonic()
        known = self._sizes.get((group, resource), now)
        each = cacher.average_size() if known is None else known[0]
        if known is None and each:
            self._sizes.put((group, resource), each, now + _SIZE_KEPT_SECONDS)
        return Stored(len(cacher), each)

    def _count_watches(self, info: RequestInfo) -> int:
        registry = self._registry(info.group, info.resource)
        return 0 if registry is None else registry.store.cacher.watchers.unselective

    def _registry(self, group: str, resource: str) -> Registry | None:
        return self._registries.known(group, resource)


def _objects(registry: Registry) -> list[Object]:
    cacher = registry.store.cacher
    return _each(registry.object, cacher.under(registry.store.prefix))


def _each(read: Callable[[Source], Read], sources: Iterable[Source]) -> list[Read]:
    """What can be read; one that cannot is left out, and the others are in force."""
    made: list[Read] = []
    for source in sources:
        contain("reading an object of priority and fairness", lambda source=source: made.append(read(source)))
    return made


class Named(Protocol):
    @property
    def name(self) -> str: ...


Kept = TypeVar("Kept", bound=Named)


def _with_mandatory(read: Callable[[Object], Kept], objects: list[Object], defaults: Iterable[Object]) -> list[Kept]:
    """What can be read of the objects, and the mandatory ones that are not among it as they are by default."""
    made = _each(read, objects)
    missing = _MANDATORY - {one.name for one in made}
    return made + [read(obj) for obj in defaults if obj["metadata"]["name"] in missing]
