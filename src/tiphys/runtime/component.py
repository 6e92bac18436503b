"""The shell of a component: from its command line to its end, the same for every program.

``launch`` parses the flags, sets up the log, runs the component's main coroutine until a signal ends it, and answers
what it cannot start with (a flag, a file, an address that is taken) by one line on stderr and exit status 1.
A component's own ``command.py`` is the table of its flags, and a function that makes the component from them.
"""

from __future__ import annotations

import argparse
import errno
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tiphys.runtime import logs, shown, yamltext
from tiphys.runtime.flags import FlagParser
from tiphys.runtime.system.process import run_until_signal

Document = dict[str, Any]
Ready = Callable[[], None]
"""What a component calls once, when it does its work: it serves, and has read what it decides on."""

log = logging.getLogger(__name__)

_ADDRESS_ERRORS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)


def whenever() -> None:
    """A ``Ready`` that nobody waits for."""


async def after(ready: Ready, *waits: Callable[[], Awaitable[Any]]) -> None:
    """Call ``ready`` when all that is waited for has happened."""
    for wait in waits:
        await wait()
    ready()


class CannotStart(ValueError):
    """A component cannot start with what it was given; the message, one line, names it and the remedy."""


class ConfigError(CannotStart):
    """A configuration that cannot be used; the message names the file and the field."""


@contextmanager
def refusing(*errors: type[Exception]) -> Iterator[None]:
    """What is raised within, if it is of these kinds, is a reason not to start: raises ``CannotStart`` from it."""
    try:
        yield
    except CannotStart:
        raise
    except errors as error:
        raise CannotStart(str(error)) from error


def by_verbosity(flags: argparse.Namespace) -> None:
    logs.configure(flags.v, form=flags.logging_format, modules=flags.vmodule)


def log_as_file_says(settings: logs.LogSettings, flags: argparse.Namespace) -> None:
    """Log as a configuration file says, where the flags do not."""
    if settings == logs.LogSettings():
        return
    form = flags.logging_format if flags.logging_format != "text" else settings.form
    logs.configure(flags.v or settings.verbosity, form=form, modules={**flags.vmodule, **settings.modules})


def choose_metrics(flags: argparse.Namespace) -> None:
    """Which metrics this process shows, if the component has flags for that. Raises ``CannotStart``."""
    if not hasattr(flags, "disabled_metrics"):
        return
    values = dict(flags.allow_metric_labels)
    if (path := flags.allow_metric_labels_manifest) is not None:
        values = _manifest(path) | values
    try:
        shown.choose(flags.disabled_metrics, values)
    except ValueError as error:
        raise CannotStart(f"--allow-metric-labels: {error}") from error


def _manifest(path: Path) -> dict[str, str]:
    try:
        document = yamltext.load(read_file(path, "--allow-metric-labels-manifest")) or {}
    except yamltext.YAMLError as error:
        raise CannotStart(f"--allow-metric-labels-manifest: {path} is not YAML: {error}") from error
    if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
        raise CannotStart(f"--allow-metric-labels-manifest: {path} does not hold METRIC,LABEL: VALUE,…")
    return {str(key): value for key, value in document.items()}


def launch(
    parser: FlagParser,
    argv: Sequence[str],
    main: Callable[[argparse.Namespace], Coroutine[Any, Any, None]],
    *,
    set_up_logs: Callable[[argparse.Namespace], None] = by_verbosity,
) -> int:
    """Run a component as a command; the exit status. ``main`` raises ``CannotStart`` for what cannot be."""
    return start(parser, parser.parse(argv), main, set_up_logs=set_up_logs)


def start(
    parser: FlagParser,
    flags: argparse.Namespace,
    main: Callable[[argparse.Namespace], Coroutine[Any, Any, None]],
    *,
    set_up_logs: Callable[[argparse.Namespace], None] = by_verbosity,
) -> int:
    """``launch``, for flags that have been parsed."""
    try:
        set_up_logs(flags)
        choose_metrics(flags)
        run(lambda: main(flags))
    except CannotStart as error:
        parser.error(str(error))
    return 0


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a component until it ends or a signal ends it. Raises ``CannotStart``, with one line, for what cannot be."""
    try:
        run_until_signal(main())
    except Exception as error:
        reason = explain(error)
        if reason is None:
            raise
        log.debug("cannot start", exc_info=error)
        raise CannotStart(reason) from error


def explain(error: BaseException) -> str | None:
    """Why a component could not start, in one line; None if the fault is the component's."""
    if isinstance(error, BaseExceptionGroup):
        reasons = [explain(member) for member in error.exceptions]
        return reasons[0] if all(reason is not None for reason in reasons) else None
    if isinstance(error, CannotStart):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _ADDRESS_ERRORS):
        return f"cannot use {error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return None


def read_file(path: Path, what: str = "") -> bytes:
    """The bytes of a file that a flag names. Raises ``CannotStart``."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CannotStart(f"{what and f'{what}: '}cannot read {path}: {error.strerror}") from error


def parse_document(text: str | bytes, source: str, kind: str, version: str) -> Document:
    """A configuration file of upstream's: its fields, without kind and apiVersion. ``source`` is how messages name it.

    Raises ``ConfigError``.
    """
    try:
        document = yamltext.load(text)
    except yamltext.YAMLError as error:
        raise ConfigError(f"{source} is not YAML: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != kind:
        raise ConfigError(f"{source} does not hold a {kind}")
    if document.get("apiVersion") != version:
        raise ConfigError(f"{source}: apiVersion {document.get('apiVersion')} is not supported; use {version}")
    return {name: value for name, value in document.items() if name not in ("kind", "apiVersion")}
