"""Command-line flags with upstream's names and Go's syntax (``--name=value``, ``--name value``, ``--bool``).

A flag that upstream has and Tiphys does not is refused by name, never ignored: an operator who sets it means it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from tiphys.runtime import durations, version


class FlagError(SystemExit):
    """A flag, or what it names, that cannot be used: ends the process with its message and exit status 1."""


class CommandParser(argparse.ArgumentParser):
    """An argument parser for one command, which answers what it cannot use in one line and exit status 2."""

    def __init__(self, prog: str, description: str = "", **more: Any) -> None:
        super().__init__(prog=prog, description=description, **{"allow_abbrev": False, **more})

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


class FlagParser(argparse.ArgumentParser):
    """An argument parser for one component: ``unsupported`` names upstream's flags that are refused by name."""

    def __init__(self, prog: str, description: str, unsupported: Iterable[str] = (), *, release: str = "") -> None:
        """``release`` is what ``--version`` prints if that is not the version of Kubernetes."""
        super().__init__(prog=prog, description=description, allow_abbrev=False)
        self._unsupported = frozenset(unsupported)
        self._release = release
        help = "print the version and exit; with vX.Y.Z…, report that version"
        self.add_argument("--version", action=_Version, nargs="?", const="true", metavar="true|raw|vX.Y.Z…", help=help)

    def error(self, message: str) -> NoReturn:
        raise FlagError(f"{self.prog}: {message}")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        known, rest = self.parse_known_args(list(arguments))
        for word in rest:
            name = word.split("=", 1)[0]
            if name.lstrip("-") in self._unsupported:
                self.error(f"upstream's flag {name} is not supported by Tiphys; remove it")
            self.error(f"unknown flag or argument: {name}")
        return known

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

    def add_bool(self, name: str, default: bool, help: str) -> None:
        """A Go boolean flag: ``--name``, ``--name=true``, ``--name=false``."""
        self.add_argument(
            name, nargs="?", const=True, default=default, type=parse_bool, help=help, metavar="true|false"
        )

    def add_verbosity(self) -> None:
        self.add_argument("-v", "--v", type=int, default=0, help="verbosity of logs, 0 to 10")

    def add_feature_gates(self) -> None:
        """``--feature-gates``, of which only the empty list is supported: features are on or off as upstream's are."""
        self.add_argument("--feature-gates", type=_no_gates, default="", help="not supported; only the empty list")


class _Version(argparse.Action):
    """Obeyed as soon as it is read: flags that are required may be missing beside it."""

    def __call__(self, parser: argparse.ArgumentParser, *words: Any) -> None:
        assert isinstance(parser, FlagParser)
        parser.obey_version(words[1])


def _no_gates(text: str) -> str:
    if text:
        raise argparse.ArgumentTypeError(
            f"feature gates cannot be set; features have upstream's defaults: leave {text!r} out"
        )
    return text


def parse_bool(text: str) -> bool:
    """Go's strconv.ParseBool."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is not a boolean; use true or false")


def parse_duration(text: str) -> float:
    """Go's time.ParseDuration (``1h15m``, ``500ms``), in seconds."""
    try:
        return durations.seconds(text)
    except durations.DurationError as error:
        raise argparse.ArgumentTypeError(f"{error}; write for example 30s, 5m or 1h30m") from None


def parse_map(text: str) -> dict[str, str]:
    """``a=b,c=d`` as a mapping."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    if bad := [key for key, equals, _ in pairs if not equals]:
        raise argparse.ArgumentTypeError(f"{bad[0]!r} has no value; write key=value[,key=value…]")
    return {key.strip(): value.strip() for key, _, value in pairs}
