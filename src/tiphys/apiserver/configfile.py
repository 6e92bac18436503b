"""Configuration files: read strictly, and followed if they may change while the server runs.

A shape describes a document: a mapping of field names to the shapes of their values, with ``"*"`` for any name; a list
of one shape; a type; or ``ANY``. Source: https://kubernetes.io/docs/reference/config-api/
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tiphys.api.object import Object
from tiphys.runtime import yamltext
from tiphys.runtime.clock import Clock

if TYPE_CHECKING:
    from prometheus_client.core import Metric

log = logging.getLogger(__name__)

T = TypeVar("T")

ANY = object()
"""The shape of a value that somebody else looks at."""
LOOK_SECONDS = 10.0
"""How often a followed file is looked at."""
_SETTLES_SECONDS = 0.5
"""A text counts if it is the same so much later: who writes a file in pieces leaves a part that may well be read."""
_KINDS: dict[Any, str] = {str: "a string", bool: "true or false", int: "an integer"}


class ConfigFileError(ValueError):
    """The file cannot be used; the message names it and the field."""


Kinds = Mapping[tuple[str, str], Any]
"""The shapes of documents by ``apiVersion`` and ``kind``."""


def parsed(text: bytes) -> Any:
    """Raises ``ConfigFileError`` for a text that is not YAML."""
    try:
        return yamltext.load(text)
    except yamltext.YAMLError as error:
        raise ConfigFileError(f"it is not YAML: {error}") from error


def typed(document: Any, kinds: Kinds) -> Object:
    """The document, which is of one of ``kinds`` and has no unknown field, without fields that are null. Raises
    ``ConfigFileError``, which names every field that is wrong."""
    head: Object = document if isinstance(document, dict) else {}
    version, kind = head.get("apiVersion"), head.get("kind")
    given: Any = (version if isinstance(version, str) else None, kind if isinstance(kind, str) else None)
    if given not in kinds:
        wanted = " or ".join(f"{kind} of {version}" for version, kind in kinds)
        raise ConfigFileError(f"it holds {given[1]!r} of {given[0]!r}; write {wanted}")
    typed_document: Object = checked(document, {"apiVersion": str, "kind": str, **kinds[given]})
    return typed_document


def checked(document: Any, shape: Any) -> Any:
    """The document, without fields that are null. Raises ``ConfigFileError`` if it has another shape."""
    if problems := list(_problems(document, shape, "")):
        raise ConfigFileError("; ".join(problems))
    return _without_nulls(document, shape)


def _problems(value: Any, shape: Any, path: str) -> Iterator[str]:
    if value is None or shape is ANY:
        return
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            yield f"{path or 'the document'}: must be an object"
            return
        for name, inner in value.items():
            at = f"{path}.{name}" if path else str(name)
            if name in shape or "*" in shape:
                yield from _problems(inner, shape.get(name, shape.get("*")), at)
            else:
                yield f'unknown field "{at}"'
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{path}: must be a list"
            return
        for number, inner in enumerate(value):
            yield from _problems(inner, shape[0], f"{path}[{number}]")
    elif type(value) is not shape:
        yield f"{path}: must be {_KINDS[shape]}"


def _without_nulls(value: Any, shape: Any) -> Any:
    """Fields that are null are left out; a null in a list is an empty value of the list's, as Go reads it."""
    if isinstance(value, dict):
        inner_of = shape if isinstance(shape, Mapping) else {}
        return {
            name: _without_nulls(inner, inner_of.get(name, inner_of.get("*", ANY)))
            for name, inner in value.items()
            if inner is not None
        }
    if isinstance(value, list):
        inner = shape[0] if isinstance(shape, list) else ANY
        return [_empty(inner) if each is None else _without_nulls(each, inner) for each in value]
    return value


def _empty(shape: Any) -> Any:
    if isinstance(shape, type):
        return shape()
    return {} if isinstance(shape, Mapping) else [] if isinstance(shape, list) else None


def read(path: Path, parse: Callable[[bytes], T]) -> T:
    """What ``parse`` makes of a file. Raises ``ConfigFileError``, which names the file."""
    return _parsed(path, _bytes(path), parse)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigFileError(f"{path}: {error.strerror}") from error


def _parsed(path: Path, text: bytes, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigFileError(f"{path}: {error}") from error


class Followed(Generic[T]):
    """What a file says, read again when its text changes. One that cannot be used is reported, and what was known so
    far stays. ``concept`` names the configuration in messages and metrics: ``authorization``."""

    def __init__(self, path: Path, parse: Callable[[bytes], T], clock: Clock, concept: str) -> None:
        """Raises ``ConfigFileError``."""
        self._path = path
        self._parse = parse
        self._clock = clock
        self._concept = concept
        self._text = _bytes(path)
        self.value = _parsed(path, self._text, parse)
        self._used = self._text
        self._unsettled: bytes | None = None
        self._outcomes: dict[str, tuple[int, float]] = {}

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        return LOOK_SECONDS if self._unsettled is None else _SETTLES_SECONDS

    def changed(self) -> T | None:
        """What the file says if it has changed, was the same at the look before, and can be used; ``use`` or ``refuse``
        has to follow."""
        try:
            text = _bytes(self._path)
            before, self._unsettled = self._unsettled, None
            if text == self._text:
                return None
            if text != before:
                self._unsettled = text
                return None
            self._text = text
            return _parsed(self._path, text, self._parse)
        except ConfigFileError as error:
            self.refuse(error)
            return None

    def use(self, value: T) -> None:
        """The new value is in force."""
        self.value, self._used = value, self._text
        self._count("success")
        log.info("the %s configuration %s has been read again", self._concept, self._path)

    def refuse(self, reason: object, *, for_now: bool = False) -> None:
        """The value so far stays in force; ``for_now``: the file may be used when it is looked at again."""
        if for_now:
            self._text = self._used
        self._count("failure")
        log.error("the %s configuration stays as it was: %s", self._concept, reason)

    def _count(self, status: str) -> None:
        self._outcomes[status] = (self._outcomes.get(status, (0, 0.0))[0] + 1, self._clock.now())

    def figures(self, server: str) -> Iterable[Metric]:
        """Upstream's metrics of reloads. ``server`` is the API server's identity."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        prefix = f"apiserver_{self._concept}_config_controller"
        labels = ("status", "apiserver_id_hash")
        total = CounterMetricFamily(
            f"{prefix}_automatic_reloads",
            f"Total number of automatic reloads of {self._concept} configuration split by status and apiserver"
            " identity.",
            labels=labels,
        )
        last = GaugeMetricFamily(
            f"{prefix}_automatic_reload_last_timestamp_seconds",
            f"Timestamp of the last automatic reload of {self._concept} configuration split by status and apiserver"
            " identity.",
            labels=labels,
        )
        for status, (count, when) in self._outcomes.items():
            total.add_metric((status, _hash(server.encode())), count)
            last.add_metric((status, _hash(server.encode())), when)
        info = GaugeMetricFamily(
            f"{prefix}_last_config_info",
            f"Information about the last applied {self._concept} configuration with hash as label, split by apiserver"
            " identity.",
            labels=("apiserver_id_hash", "hash"),
        )
        info.add_metric((_hash(server.encode()), _hash(self._used)), 1)
        return total, last, info


class Retired:
    """What a configuration that was replaced has left: it is closed once nobody can be using it any more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left: list[tuple[float, Callable[[], Awaitable[None]]]] = []

    def add(self, seconds: float, close: Callable[[], Awaitable[None]]) -> None:
        """``close`` in so many seconds, or when the server stops."""
        self._left.append((self._clock.monotonic() + seconds, close))

    async def sweep(self) -> None:
        now = self._clock.monotonic()
        due = [close for when, close in self._left if when <= now]
        self._left = [(when, close) for when, close in self._left if when > now]
        for close in due:
            await close()

    async def close(self) -> None:
        left, self._left = self._left, []
        for _, close in left:
            await close()


def _hash(text: bytes) -> str:
    return f"sha256:{hashlib.sha256(text).hexdigest()}"
