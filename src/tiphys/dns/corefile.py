"""CoreDNS's configuration, as far as a cluster's own has it: a Corefile of one block, as fields of ``DNSConfig``.

What this server does in any case is accepted (``errors``, ``loop``, ``reload``, ``loadbalance``); a plugin that it
does not have is refused by name. Source: https://coredns.io/manual/toc/#configuration and the pages of the plugins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.runtime.component import ConfigError

Fields = dict[str, Any]
_REVERSE = ("in-addr.arpa", "ip6.arpa")


@dataclass
class Directive:
    """One line of a block, with the lines of the block that it opens."""

    words: list[str]
    block: list[Directive] = field(default_factory=list)


def parse(text: str) -> Fields:
    """The fields that a Corefile sets. Raises ``ConfigError``, which names the plugin or option."""
    blocks = _directives(_lines(text))
    if len(blocks) != 1 or len(blocks[0].words) != 1 or not re.fullmatch(r"\.(:\d+)?", blocks[0].words[0]):
        keys = ", ".join(" ".join(block.words) for block in blocks)
        raise ConfigError(f"one server block, for the zone `.`, is supported; the Corefile has: {keys or 'none'}")
    fields: Fields = {"port": int(blocks[0].words[0].partition(":")[2] or 53)}
    for directive in blocks[0].block:
        plugin = directive.words[0]
        if plugin not in _PLUGINS:
            raise ConfigError(f"plugin {plugin} is not supported; supported are {', '.join(sorted(_PLUGINS))}")
        _PLUGINS[plugin](directive, fields)
    return fields


def _lines(text: str) -> list[list[str]]:
    lines = (re.sub(r"(^|\s)#.*", "", line).split() for line in text.splitlines())
    return [words for words in lines if words]


def _directives(lines: list[list[str]]) -> list[Directive]:
    """Nested blocks: a line that ends with ``{`` opens one, a line that is ``}`` closes it."""
    top: list[Directive] = []
    inside: list[list[Directive]] = [top]
    for words in lines:
        if words == ["}"]:
            inside.pop()
            if not inside:
                raise ConfigError("the Corefile closes a block that is not open")
            continue
        opens = words[-1] == "{"
        directive = Directive(words[:-1] if opens else words)
        inside[-1].append(directive)
        if opens:
            inside.append(directive.block)
    if len(inside) != 1:
        raise ConfigError("the Corefile ends inside a block")
    return top


def _nothing(directive: Directive, fields: Fields) -> None:
    """This server does so in any case."""


def _health(default: str) -> Callable[[Directive, Fields], None]:
    def take(directive: Directive, fields: Fields) -> None:
        _refuse_options(directive, known=("lameduck",))
        host, _, port = (directive.words[1] if len(directive.words) > 1 else default).rpartition(":")
        fields["health_addresses"] = (*fields.get("health_addresses", ()), f"{host or '0.0.0.0'}:{port}")

    return take


def _kubernetes(directive: Directive, fields: Fields) -> None:
    zones = [zone for zone in directive.words[1:] if zone not in _REVERSE]
    if len(zones) != 1:
        raise ConfigError(f"kubernetes: one cluster domain is supported, not {len(zones)}")
    fields["cluster_domain"] = zones[0].rstrip(".")
    _refuse_options(directive, known=("pods", "fallthrough", "ttl"))
    for option in directive.block:
        match option.words:
            case ["ttl", seconds]:
                fields["ttl"] = int(seconds)
            case ["pods", mode] if mode != "insecure":
                raise ConfigError(f"kubernetes: pods {mode} is not supported; use insecure")
            case ["fallthrough", *rest] if set(rest) - set(_REVERSE):
                raise ConfigError("kubernetes: fallthrough is supported for in-addr.arpa and ip6.arpa only")


def _forward(directive: Directive, fields: Fields) -> None:
    if len(directive.words) < 3 or directive.words[1] != ".":
        raise ConfigError("forward: only `forward . ADDRESS… | FILE` is supported")
    _refuse_options(directive, known=("max_concurrent", "policy"))
    targets = [target.removeprefix("dns://") for target in directive.words[2:]]
    if encrypted := [target for target in targets if "://" in target]:
        raise ConfigError(f"forward: {encrypted[0]} is not supported; name servers that speak plain DNS")
    if targets[0].startswith("/"):
        fields["resolver_file"] = targets[0]
    else:
        fields["upstreams"] = tuple(targets)


def _refuse_options(directive: Directive, known: Sequence[str]) -> None:
    if other := [option.words[0] for option in directive.block if option.words[0] not in known]:
        raise ConfigError(f"{directive.words[0]}: option {other[0]} is not supported; remove it")


_PLUGINS: dict[str, Callable[[Directive, Fields], None]] = {
    **dict.fromkeys(("errors", "loop", "reload", "loadbalance", "cache"), _nothing),
    "health": _health(":8080"),
    "ready": _health(":8181"),
    "prometheus": _health(":9153"),
    "kubernetes": _kubernetes,
    "forward": _forward,
}
