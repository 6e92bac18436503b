"""etcdctl's command line: words that name a command, flags anywhere, and the rest as arguments.

Source: https://github.com/etcd-io/etcd/tree/main/etcdctl
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.runtime.flags import parse_bool, parse_duration

BAD_FEATURE, BAD_ARGUMENTS = 4, 128
Value = str | bool | int | float


class UsageError(Exception):
    """A command line that cannot be understood; ``status`` is the process's exit status."""

    def __init__(self, message: str, status: int = BAD_ARGUMENTS) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag. The default's type is the flag's; durations have a float in seconds."""

    name: str
    default: Value
    help: str
    short: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A command: ``run`` is given a ``Session`` (see ``session``)."""

    name: str
    help: str
    run: Callable[[Any], Awaitable[None]]
    flags: Sequence[Flag] = ()
    usage: str = ""
    refused: Sequence[str] = ()
    """Upstream's flags that are refused by name."""


@dataclass(slots=True)
class Parsed:
    command: Command
    arguments: list[str]
    values: dict[str, Any] = field(default_factory=dict)
    after_dashes: list[str] = field(default_factory=list)
    """What came after ``--``."""


GLOBAL = (
    Flag("endpoints", "127.0.0.1:2379", "gRPC endpoints"),
    Flag("write-out", "simple", "the output format: fields, json, simple, table", "w"),
    Flag("hex", default=False, help="print byte strings as hex encoded strings"),
    Flag("cacert", "", "verify the servers' certificates with these authorities"),
    Flag("cert", "", "the client's certificate"),
    Flag("key", "", "the client certificate's key"),
    Flag("command-timeout", 5.0, "how long a short command may take"),
    Flag("dial-timeout", 2.0, "how long a connection may take"),
    Flag("keepalive-time", 2.0, "how often an idle connection is probed"),
    Flag("keepalive-timeout", 6.0, "how long a probe may take"),
    Flag("insecure-transport", default=True, help="without TLS where an endpoint does not say https"),
    Flag("debug", default=False, help="log what the client does"),
)
_REFUSED_GLOBAL = (
    "discovery-srv discovery-srv-name insecure-discovery insecure-skip-tls-verify user password auth-jwt-token "
    "max-recv-bytes max-send-bytes"
)


def parse(words: Sequence[str], commands: Mapping[str, Command], environment: Mapping[str, str]) -> Parsed:
    """Find the command, its flags and arguments. Raises ``UsageError``."""
    command, rest = _find(words, commands)
    flags = {flag.name: flag for flag in (*GLOBAL, *command.flags)}
    shorts = {flag.short: flag for flag in flags.values() if flag.short}
    values: dict[str, Any] = {name: flag.default for name, flag in flags.items()}
    for flag in GLOBAL:
        text = environment.get("ETCDCTL_" + flag.name.upper().replace("-", "_"))
        if text:
            values[flag.name] = _convert(flag, text)
    parsed = Parsed(command, [], values)
    at = 0
    while at < len(rest):
        word = rest[at]
        at += 1
        if word == "--":
            parsed.after_dashes = list(rest[at:])
            break
        if not word.startswith("-") or word == "-":
            parsed.arguments.append(word)
            continue
        name, equals, text = word.lstrip("-").partition("=")
        known = flags.get(name) if word.startswith("--") else shorts.get(name)
        if known is None:
            raise _unknown(name, command)
        if not equals:
            if isinstance(known.default, bool):
                text = "true"
            elif at < len(rest):
                text = rest[at]
                at += 1
            else:
                raise UsageError(f"flag needs an argument: --{known.name}", 1)
        values[known.name] = _convert(known, text)
    return parsed


def _find(words: Sequence[str], commands: Mapping[str, Command]) -> tuple[Command, list[str]]:
    """The longest command that the words name, flags between them aside; and the other words."""
    names = _command_words(words)
    for count in (2, 1):
        name = " ".join(words[at] for at in names[:count])
        if len(names) >= count and name in commands:
            used = set(names[:count])
            return commands[name], [word for at, word in enumerate(words) if at not in used]
    tried = " ".join(words[at] for at in names[:2])
    raise UsageError(f'unknown command "{tried}" for "etcdctl"', 1)


def _command_words(words: Sequence[str]) -> list[int]:
    """Where the first words are that are neither global flags nor their values."""
    takes_value = {f"--{flag.name}" for flag in GLOBAL if not isinstance(flag.default, bool)} | {"-w"}
    words_at = []
    skip = False
    for at, word in enumerate(words):
        if skip:
            skip = False
        elif word == "--":
            break
        elif word.startswith("-"):
            skip = word in takes_value
        else:
            words_at.append(at)
    return words_at


def _unknown(name: str, command: Command) -> UsageError:
    if name in (*command.refused, *_REFUSED_GLOBAL.split()):
        return UsageError(f"flag --{name} of etcdctl is not supported by tiphys etcdctl", 1)
    return UsageError(f"unknown flag: --{name}", 1)


def _convert(flag: Flag, text: str) -> Value:
    try:
        if isinstance(flag.default, bool):
            return parse_bool(text)
        if isinstance(flag.default, float):
            return parse_duration(text)
        return int(text) if isinstance(flag.default, int) else text
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise UsageError(f'invalid argument "{text}" for "--{flag.name}" flag: {error}', 1) from error


def usage(command: Command) -> str:
    lines = [f"NAME:\n\t{command.name} - {command.help}\n", f"USAGE:\n\tetcdctl {command.name} {command.usage}\n"]
    for title, flags in (("OPTIONS", command.flags), ("GLOBAL OPTIONS", GLOBAL)):
        lines.append(f"{title}:")
        lines += [f"  {'-' + flag.short + ', ' if flag.short else '    '}--{flag.name}\t{flag.help}" for flag in flags]
    return "\n".join(lines)


def environment() -> Mapping[str, str]:
    return os.environ
