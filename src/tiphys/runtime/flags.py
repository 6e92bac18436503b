"""Command-line flags with upstream's names and Go's syntax (``--name=value``, ``--name value``, ``--bool``).

A flag of upstream's that would steer something that Tiphys does not have is accepted with a warning if its value is
upstream's default, and otherwise refused by name, never ignored: an operator who sets it means it.

Source: https://pkg.go.dev/github.com/spf13/pflag
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tiphys.runtime import durations, featuregates, logs, upstream, version


class FlagError(SystemExit):
    """A flag, or what it names, that cannot be used: ends the process with its message and exit status 1."""


class CommandParser(argparse.ArgumentParser):
    """An argument parser for one command, which answers what it cannot use in one line and exit status 2."""

    def __init__(self, prog: str, description: str = "", **more: Any) -> None:
        super().__init__(prog=prog, description=description, **{"allow_abbrev": False, **more})

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


class FlagParser(argparse.ArgumentParser):
    """An argument parser for one component.

    Of upstream's component of the same name, flags that are not added here steer nothing: only their defaults are
    accepted. ``unsupported`` names further flags that are refused whatever their value.
    """

    def __init__(
        self,
        prog: str,
        description: str,
        unsupported: Iterable[str] = (),
        *,
        same: Mapping[str, Sequence[str]] | None = None,
        why: Mapping[str, str] | None = None,
        release: str = "",
    ) -> None:
        """``same``: values of flags that steer nothing which say what Tiphys does, beside upstream's default; ``why``
        these flags steer nothing. ``release`` is what ``--version`` prints if that is not the version of Kubernetes."""
        super().__init__(prog=prog, description=description, allow_abbrev=False)
        self._unsupported = frozenset(unsupported)
        self._same = dict(same or {})
        self._why = dict(why or {})
        self._release = release
        help = "print the version and exit; with vX.Y.Z…, report that version"
        self.add_argument("--version", action=_Version, nargs="?", const="true", metavar="true|raw|vX.Y.Z…", help=help)

    def error(self, message: str) -> NoReturn:
        raise FlagError(f"{self.prog}: {message}")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """What the arguments say. Warns of flags that steer nothing; exits for what is not supported."""
        known, rest = self.parse_known_args(list(arguments))
        if rest:
            self._add_idle()
            known, rest = self.parse_known_args(list(arguments))
        for word in rest:
            name = word.split("=", 1)[0]
            if name.lstrip("-") in self._unsupported:
                self.error(f"upstream's flag {name} is not supported by Tiphys; remove it")
            self.error(f"unknown flag or argument: {name}")
        return known

    def idle(self) -> dict[str, upstream.UpstreamFlag]:
        """Upstream's flags that steer nothing here."""
        added = self._option_string_actions
        if self.prog not in upstream.COMPONENTS:
            return {}
        return {
            name: flag
            for name, flag in upstream.flags_of(self.prog).items()
            if isinstance(added.get(f"--{name}"), _Idle | None)
        }

    def same(self, name: str) -> Sequence[str]:
        """Values of an idle flag that are accepted beside upstream's default."""
        return self._same.get(name, ())

    def why(self, name: str) -> str:
        """Why an idle flag steers nothing, if that is said."""
        return self._why.get(name) or upstream.WHY.get(name, "")

    def values(self, flags: argparse.Namespace) -> dict[str, Any]:
        """Every flag with its value, by name with underscores: those of upstream that steer nothing, too."""
        return {name.replace("-", "_"): flag.default or None for name, flag in self.idle().items()} | vars(flags)

    def _add_idle(self) -> None:
        for name, flag in self.idle().items():
            const = "true" if flag.kind in upstream.BOOLEAN_KINDS else None
            self.add_argument(
                f"--{name}",
                action=_Idle,
                nargs=None if const is None else "?",
                const=const,
                default=argparse.SUPPRESS,
                help=argparse.SUPPRESS,
            )

    def accept_idle(self, name: str, value: str) -> None:
        flag = upstream.flags_of(self.prog)[name]
        if flag.says_default(value):
            self.warn(f"flag --{name} steers nothing in Tiphys; its value is upstream's default, so it is accepted")
        elif value not in self.same(name):
            wanted = " or ".join(repr(text) for text in (flag.default, *self.same(name)))
            why = self.why(name) and f": {self.why(name)}"
            self.error(f"upstream's flag --{name}={value} is not supported by Tiphys{why}; remove it, or give {wanted}")

    def warn(self, message: str) -> None:
        print(f"{self.prog}: warning: {message}", file=sys.stderr)

    def obey_version(self, asked: str) -> None:
        """Print the version and exit, or report another one from now on."""
        try:
            if asked.startswith("v"):
                version.report(asked)
            elif asked == "raw":
                print(version.raw_text())
                self.exit(0)
            elif parse_bool(asked):
                print(self._release or f"Kubernetes {version.git_version()}")
                self.exit(0)
        except (ValueError, argparse.ArgumentTypeError) as error:
            self.error(f'invalid argument "{asked}" for "--version" flag: {error}')

    def add_bool(self, name: str, help: str, *, default: bool) -> None:
        """A Go boolean flag: ``--name``, ``--name=true``, ``--name=false``."""
        self.add_argument(
            name, nargs="?", const=True, default=default, type=parse_bool, help=help, metavar="true|false"
        )

    def add_verbosity(self) -> None:
        """How much is logged, and how."""
        self.add_argument("-v", "--v", type=int, default=0, help="verbosity of logs, 0 to 10")
        self.add_argument("--logging-format", default="text", choices=tuple(logs.FORMATS), help="the form of logs")
        self.add_argument("--vmodule", type=parse_modules, action=_Merged, default={}, metavar="PATTERN=N,…",
            help="verbosity of modules, by the last part of their name or, with a slash, by their path")  # fmt: skip
        self.add_argument("--log-flush-frequency", type=parse_duration, default=5.0,
            help="how long a line may be held back; none is")  # fmt: skip

    def add_metrics(self) -> None:
        """Which metrics are shown, and with which values of labels."""
        self.add_argument("--disabled-metrics", type=parse_words, action="extend", default=[], metavar="NAME,…",
            help="metrics that are not shown")  # fmt: skip
        self.add_argument("--allow-metric-labels", type=parse_labels, action=_Merged, default={},
            metavar="METRIC,LABEL=VALUE,…", help="values of a label; others are unexpected")  # fmt: skip
        self.add_argument("--allow-metric-labels-manifest", type=Path, help="a file of them: METRIC,LABEL: VALUE,…")

    def add_feature_gates(self) -> None:
        """``--feature-gates``: every gate of upstream's is known, and accepted with the value that it has in Tiphys."""
        help = "Name=true|false,…; accepted with what Tiphys does, see docs/flags.md"
        self.add_argument("--feature-gates", action=_Gates, default={}, metavar="NAME=true|false,…", help=help)


class _Version(argparse.Action):
    """Obeyed as soon as it is read: flags that are required may be missing beside it."""

    def __call__(self, parser: argparse.ArgumentParser, *words: Any) -> None:
        assert isinstance(parser, FlagParser)
        parser.obey_version(words[1])


class _Gates(argparse.Action):
    """May be repeated; what is named later wins."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, *_: Any) -> None:
        try:
            asked = {**getattr(namespace, self.dest), **featuregates.parse(value)}
        except featuregates.GateError as error:
            parser.error(f'invalid argument "{value}" for "--feature-gates" flag: {error}')
        setattr(namespace, self.dest, asked)


class _Merged(argparse.Action):
    """May be repeated: what is named later is added."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, *_: Any) -> None:
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), **value})


class _Idle(argparse.Action):
    """A flag that steers nothing: looked at, and forgotten."""

    def __call__(self, parser: argparse.ArgumentParser, _: argparse.Namespace, value: Any, *__: Any) -> None:
        assert isinstance(parser, FlagParser)
        parser.accept_idle(self.option_strings[0].removeprefix("--"), value)


def parse_bool(text: str) -> bool:
    """Go's strconv.ParseBool."""
    try:
        return upstream.boolean(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_duration(text: str) -> float:
    """Go's time.ParseDuration (``1h15m``, ``500ms``), in seconds."""
    try:
        return durations.seconds(text)
    except durations.DurationError as error:
        raise argparse.ArgumentTypeError(f"{error}; write for example 30s, 5m or 1h30m") from None


def parse_modules(text: str) -> dict[str, int]:
    """The value of ``--vmodule``."""
    try:
        return logs.read_modules(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_words(text: str) -> list[str]:
    """Words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def parse_labels(text: str) -> dict[str, str]:
    """``METRIC,LABEL=VALUE,…``, several of them each in double quotes, as pflag's ``stringToString``."""
    rows = [text] if text.count("=") <= 1 else next(csv.reader([text]))
    pairs = [row.strip('"').partition("=") for row in rows if row]
    if bad := [key for key, equals, _ in pairs if not equals]:
        raise argparse.ArgumentTypeError(f"{bad[0]} must be formatted as key=value")
    return {key.strip(): value.strip().strip("'") for key, _, value in pairs}


def parse_map(text: str) -> dict[str, str]:
    """``a=b,c=d`` as a mapping."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    if bad := [key for key, equals, _ in pairs if not equals]:
        raise argparse.ArgumentTypeError(f"{bad[0]!r} has no value; write key=value[,key=value…]")
    return {key.strip(): value.strip() for key, _, value in pairs}
