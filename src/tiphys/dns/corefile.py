"""CoreDNS's configuration, as far as a cluster's own has it: a Corefile, as fields of ``DNSConfig``.

One block is for the zone ``.``; each other one names a zone whose questions go to servers of its own. What this server
does in any case is accepted (``errors``, ``loop``, ``reload``, ``loadbalance``); a plugin that it does not have is
refused by name. Source: https://coredns.io/manual/toc/#configuration and the pages of the plugins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Sequence
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
    blocks = [(block, *_key(block)) for block in _directives(_lines(text))]
    roots = [(block, port) for block, zone, port in blocks if zone == "."]
    if len(roots) != 1:
        keys = ", ".join(" ".join(block.words) for block, _, _ in blocks)
        raise ConfigError(f"one server block for the zone `.` is wanted; the Corefile has: {keys or 'none'}")
    root, port = roots[0]
    fields: Fields = {"port": port}
    for directive in root.block:
        _supported(directive, _PLUGINS)
        _PLUGINS[directive.words[0]](directive, fields)
    for block, zone, other in blocks:
        if zone != ".":
            if other != port:
                raise ConfigError(f"{zone}:{other}: every zone is served on one port, which is {port} for `.`")
            _stub(block, zone, fields)
    return fields


def _key(block: Directive) -> tuple[str, int]:
    """Zone and port that a block is for."""
    matched = re.fullmatch(r"(?:dns://)?(\.|[\w.-]+?)\.?(?::(\d+))?", " ".join(block.words))
    if matched is None:
        raise ConfigError(f"server block {' '.join(block.words)!r}: one zone is supported, as in `example.org:53 {{`")
    return matched[1].lower(), int(matched[2] or 53)


def _stub(block: Directive, zone: str, fields: Fields) -> None:
    """A block of a zone that others answer for. Raises ``ConfigError`` if it does not say who."""
    for directive in block.block:
        _supported(directive, _OF_STUBS)
        if directive.words[0] == "forward":
            _forward(Directive(["forward", zone, *directive.words[2:]], directive.block), fields)
    if zone not in {stub for stub, _ in fields.get("stub_zones", ())}:
        raise ConfigError(
            f"zone {zone}: it needs `forward . ADDRESS…`, as Tiphys answers for the cluster's domain alone"
        )


def _supported(directive: Directive, known: Container[str]) -> None:
    if directive.words[0] not in known:
        listed = ", ".join(sorted(_PLUGINS if known is _PLUGINS else _OF_STUBS))
        raise ConfigError(f"plugin {directive.words[0]} is not supported; supported are {listed}")


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
    if len(directive.words) < 3:
        raise ConfigError("forward: write `forward . ADDRESS… | FILE`, or `forward ZONE ADDRESS…`")
    _refuse_options(directive, known=("max_concurrent", "policy"))
    zone = directive.words[1].rstrip(".").lower() or "."
    targets = [target.removeprefix("dns://") for target in directive.words[2:]]
    if encrypted := [target for target in targets if "://" in target]:
        raise ConfigError(f"forward: {encrypted[0]} is not supported; name servers that speak plain DNS")
    if zone != ".":
        if targets[0].startswith("/"):
            raise ConfigError(f"forward {zone}: name servers by their addresses, not by the file {targets[0]}")
        fields["stub_zones"] = (*fields.get("stub_zones", ()), (zone, tuple(targets)))
    elif targets[0].startswith("/"):
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
_OF_STUBS = frozenset(("errors", "loop", "reload", "loadbalance", "cache", "forward"))
"""What a block of another zone may say."""
