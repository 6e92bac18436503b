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

_PATHS = ("/configz", "/healthz", "/livez", "/metrics", "/readyz")
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
) -> HealthHandler:
    """``configuration`` is what ``/configz`` shows, ``parts`` what the health checks look at."""
    running = zpages.Running(name, clock, _PATHS)
    shown = zpages.flag_values(flags)

    def status(request: Request) -> Response:
        return zpages.answer(request, "Statusz", name, running.status(), running.status_text())

    def flagz(request: Request) -> Response:
        return zpages.answer(request, "Flagz", name, {"flags": shown}, zpages.flags_text(shown))

    def configz(request: Request) -> Response:
        return Response(200, {"Content-Type": "application/json"}, orjson.dumps(configuration()))

    pages = {"/statusz": status, "/flagz": flagz, "/configz": configz}
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
