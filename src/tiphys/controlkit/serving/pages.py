"""The pages that every component has: health, metrics, ``/statusz``, ``/flagz`` and ``/configz``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import orjson

from tiphys.controlkit.serving import zpages
from tiphys.runtime.clock import Clock
from tiphys.wire.health import Check, HealthHandler
from tiphys.wire.http import Request, Response

Page = Callable[[Request], Response]

_SECRET = ("key", "token", "signing")


def component_pages(
    *,
    name: str,
    clock: Clock,
    checks: Mapping[str, Check],
    metrics: Callable[[], bytes] | None,
    parts: Callable[[], Iterable[str]],
    flags: Mapping[str, object],
    configuration: Callable[[], Mapping[str, Any]],
    more: Mapping[str, Page] | None = None,
) -> HealthHandler:
    """``configuration`` is what ``/configz`` shows, ``parts`` what the health checks look at, ``more`` other pages."""

    def configz(request: Request) -> Response:
        return Response(200, {"Content-Type": "application/json"}, orjson.dumps(configuration()))

    pages: dict[str, Page] = {"/configz": configz, **(more or {})}
    served = sorted((*checks, *pages, *(("/metrics",) if metrics is not None else ())))
    pages |= zpages.pages(name, clock, flags, served)
    return HealthHandler(checks, metrics, parts=parts, pages=pages)


def describe(config: Any) -> Any:
    """A configuration as JSON: fields in camel case; key material, whose fields are named for it, is left out."""
    if is_dataclass(config):
        return {
            _camel(field.name): describe(getattr(config, field.name))
            for field in fields(config)
            if not any(word in field.name.split("_") for word in _SECRET)
        }
    match config:
        case Mapping():
            return {str(key): describe(value) for key, value in config.items()}
        case list() | tuple():
            return [describe(value) for value in config]
        case frozenset() | set():
            return sorted(map(str, config))
        case bytes():
            return config.decode("ascii", "replace")
        case Path():
            return str(config)
        case str() | int() | float() | bool() | None:
            return config
    return str(config)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)
