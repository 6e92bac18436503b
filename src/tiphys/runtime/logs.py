"""Structured logs in klog's form: ``I1121 04:11:50.123456   pid module:line] message key="value"``; or, with
``--logging-format=json``, as one JSON object a line.

Verbosity follows upstream's ``-v``: 0–1 shows information and above, 2 and more shows debug lines. ``--vmodule`` gives
modules another one: a pattern without a slash stands for a module's name, one with a slash for its path. A line is
written as soon as it is made, and secrets never reach a log: callers pass names and keys of objects, not objects.

Source: https://kubernetes.io/docs/concepts/cluster-administration/system-logs/#klog
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

_LETTERS = {"DEBUG": "I", "INFO": "I", "WARNING": "W", "ERROR": "E", "CRITICAL": "F"}


class KlogFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%m%d %H:%M:%S", time.gmtime(record.created))
        micros = int(record.created % 1 * 1_000_000)
        place = f"{record.name.removeprefix('tiphys.')}:{record.lineno}"
        line = f"{_LETTERS.get(record.levelname, 'I')}{stamp}.{micros:06d} {record.process:>7} {place}] "
        line += record.getMessage()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """A line of upstream's JSON: ``ts`` in milliseconds; ``v`` of what is no error, ``err`` of what was raised."""

    def format(self, record: logging.LogRecord) -> str:
        place = f"{record.name.removeprefix('tiphys.')}:{record.lineno}"
        line: dict[str, object] = {"ts": record.created * 1000, "caller": place, "msg": record.getMessage()}
        if record.levelno < logging.ERROR:
            line["v"] = 2 if record.levelno < logging.INFO else 0
        if record.exc_info:
            line |= {"err": str(record.exc_info[1]), "stacktrace": self.formatException(record.exc_info)}
        return json.dumps(line, ensure_ascii=False)


FORMATS = {"text": KlogFormatter, "json": JsonFormatter}


DEBUGGING = 2
"""The verbosity from which on debug lines are shown."""
Modules = Mapping[str, int]
"""Verbosity of modules, by pattern; the first one that fits counts."""


class _Chosen(logging.Filter):
    """Lets through what a module's verbosity shows; ``least`` is the level for all others."""

    def __init__(self, modules: Modules, least: int) -> None:
        super().__init__()
        self._modules = modules
        self._least = least

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= self._least_of(record.name)

    def _least_of(self, name: str) -> int:
        path = name.replace(".", "/")
        for pattern, verbosity in self._modules.items():
            if fnmatchcase(path if "/" in pattern else path.rpartition("/")[2], pattern):
                return logging.DEBUG if verbosity >= DEBUGGING else logging.INFO
        return self._least


def read_modules(text: str) -> dict[str, int]:
    """``PATTERN=N,…`` as ``--vmodule`` has it. Raises ``ValueError``."""
    modules: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        pattern, equals, number = part.partition("=")
        if not equals or not pattern or not number.isdigit():
            raise ValueError("syntax error: expect comma-separated list of filename=N")
        modules[pattern] = int(number)
    return modules


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What the field ``logging`` of a component's configuration says: ``LoggingConfiguration``."""

    verbosity: int = 0
    form: str = "text"
    modules: Modules = field(default_factory=dict)


def read_settings(given: Mapping[str, Any]) -> LogSettings:
    """Raises ``ValueError``, which names the field, for what is not supported."""
    rest = {**given}
    form, verbosity = rest.pop("format", None) or "text", rest.pop("verbosity", None) or 0
    modules = dict(map(_module, rest.pop("vmodule", None) or ()))
    rest.pop("flushFrequency", None)  # no line is ever held back
    if form not in FORMATS:
        raise ValueError(f"format {form} is not supported; use {' or '.join(FORMATS)}")
    if left := [name for name, value in rest.items() if not _says_nothing(value)]:
        raise ValueError(f"upstream's field {left[0]} is not supported by Tiphys; remove it")
    return LogSettings(int(verbosity), form, modules)


def _module(row: Mapping[str, Any]) -> tuple[str, int]:
    if not row.get("filePattern"):
        raise ValueError("vmodule: a filePattern is required")
    return row["filePattern"], int(row.get("verbosity") or 0)


def _says_nothing(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_says_nothing, value.values()))
    return value in (None, "", 0, "0", "0s", False)


def configure(
    verbosity: int = 0, least: int = logging.INFO, form: str = "text", modules: Modules | None = None
) -> None:
    """Send logs of the process to standard error. ``verbosity`` is upstream's ``-v`` (0 to 10); below 2, nothing under
    the level ``least`` is logged. ``form`` is one of ``FORMATS``; ``modules`` have a verbosity of their own."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[form]())
    level = logging.DEBUG if verbosity >= DEBUGGING else least
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    if modules:
        handler.addFilter(_Chosen(modules, level))
        root.setLevel(logging.DEBUG)
    if verbosity < 8:
        for noisy in ("asyncio", "grpc", "hpack"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
