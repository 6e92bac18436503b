"""What is served, as files for haproxy (pure).

Nothing that a tenant writes stands in the configuration itself but names of Services, which are DNS names, and of
headers: hosts and paths are keys of map files, looked up by tree, so that the time of a request does not grow with
their number. The most specific host is tried first, at each host the whole path, then the longest prefix.

Source: https://docs.haproxy.org/2.6/configuration.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiphys.addons.ingress.actions import VALUES, actions_of, values_of
from tiphys.addons.ingress.model import ANY_HOST, Filters, ProxyTarget, Routing, TargetGroup

EXACT, PREFIX, CERTIFICATES = "exact.map", "prefix.map", "certificates.list"
SPLITS, SHARES = "splits.map", "shares.map"
"""How many slots each split has, and which group has each slot."""
FEWEST_SLOTS = 4
"""Places for endpoints in a group: those that are free can be taken without a reload."""
NOTHING = "127.0.0.1:1"
"""The address of a free place."""

_GLOBAL = """\
global
  log stderr format raw daemon notice
  user nobody
  group nogroup
  maxconn 8192
  hard-stop-after 10m
  ssl-default-bind-options ssl-min-ver TLSv1.2
  stats socket {socket} mode 600 level admin

defaults
  mode http
  log global
  timeout connect 5s
  timeout client 60s
  timeout client-fin 30s
  timeout server 60s
  timeout tunnel 1h
  timeout http-request 15s
  timeout http-keep-alive 60s
  retries 3
  option redispatch

frontend web
"""
_REQUEST = """\
  http-request deny deny_status 400 unless { req.hdr_cnt(host) le 1 }
  http-request set-var(txn.scheme) str(https) if { ssl_fc }
  http-request set-var(txn.scheme) str(http) unless { ssl_fc }
  http-request set-var(txn.host) req.hdr(host),lower,regsub(:[0-9]*$,)
  acl is_name var(txn.host) -m reg ^[a-z0-9._-]*$
  acl is_address var(txn.host) -m reg ^\\[[0-9a-f:.]*\\]$
  http-request deny deny_status 400 unless is_name or is_address
  http-request set-var(txn.path) path
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto %[var(txn.scheme)]
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
"""
_HOSTS = (
    "var(txn.host)",
    "var(txn.host),regsub(^[^.]*,*)",
    "var(txn.host),regsub(^[^.]*,**)",
    "var(txn.host),regsub(^[^.]*[.][^.]*,**)",
    "var(txn.host),regsub(^[^.]*[.][^.]*[.][^.]*,**)",
    f"str({ANY_HOST})",
)
"""The hosts under which a rule may be found, the most specific first: the name, then with its labels replaced."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where requests come in."""

    addresses: Sequence[str]
    http: int
    https: int
    socket: Path


def files_of(routing: Routing, listening: Listening, folder: Path, default_pem: bytes) -> dict[str, bytes]:
    """The content by name; ``folder`` is where they will be."""
    files = {
        "haproxy.cfg": _configuration(routing, listening, folder).encode(),
        EXACT: _map(routing, exact=True),
        PREFIX: _map(routing, exact=False),
        SPLITS: _slots(routing),
        SHARES: _shares(routing),
        VALUES: values_of(routing.groups),
        CERTIFICATES: _certificate_list(routing, folder),
        "default.pem": default_pem,
    }
    return files | {f"{name}.pem": pem for name, pem in _pems(routing).items()}


def _pems(routing: Routing) -> dict[str, bytes]:
    return {f"tls_{certificate.name}": certificate.pem for certificate in routing.certificates}


def _configuration(routing: Routing, listening: Listening, folder: Path) -> str:
    lines = [_GLOBAL.format(socket=listening.socket)]
    for address in listening.addresses:
        host = f"[{address}]" if ":" in address else address
        lines.append(f"  bind {host}:{listening.http}\n")
        lines.append(f"  bind {host}:{listening.https} ssl crt-list {folder}/{CERTIFICATES} alpn h2,http/1.1\n")
    lines.append(_REQUEST)
    for host in _HOSTS:
        lines += _lookup(host, folder)
    lines += _choice(folder)
    lines.append("  use_backend %[var(txn.group)] if { var(txn.group) -m found }\n  default_backend none\n\n")
    lines.append(
        "backend none\n  http-request return status 404 content-type text/plain"
        ' string "404: no rule for this host and path\\n"\n'
    )
    lines += [_group(group, str(folder)) for group in routing.groups]
    return "".join(lines)


def _lookup(host: str, folder: Path) -> Iterable[str]:
    unless = "unless { var(txn.group) -m found }"
    yield f"  http-request set-var(txn.at) {host} {unless}\n"
    yield f"  http-request set-var(txn.key) var(txn.scheme),concat(:,txn.at),concat(,txn.path) {unless}\n"
    yield f"  http-request set-var(txn.group) var(txn.key),map_str({folder}/{EXACT}) {unless}\n"
    yield f"  http-request set-var(txn.group) var(txn.key),concat(/),map_beg({folder}/{PREFIX}) {unless}\n"


def _choice(folder: Path) -> Iterable[str]:
    """Of a split, one of its slots by chance, whose group it is then."""
    drawn = "if { var(txn.slots) -m found }"
    yield f"  http-request set-var(txn.slots) var(txn.group),map_str_int({folder}/{SPLITS})\n"
    yield f"  http-request set-var(txn.slot) rand,mod(txn.slots) {drawn}\n"
    yield f"  http-request set-var(txn.group) var(txn.group),concat(:,txn.slot),map_str({folder}/{SHARES}) {drawn}\n"


def _slots(routing: Routing) -> bytes:
    return "".join(f"{split.name} {sum(count for _, count in split.shares)}\n" for split in routing.splits).encode()


def _shares(routing: Routing) -> bytes:
    lines = []
    for split in routing.splits:
        groups = [group for group, count in split.shares for _ in range(count)]
        lines += [f"{split.name}:{slot} {group}\n" for slot, group in enumerate(groups)]
    return "".join(lines).encode()


def _map(routing: Routing, *, exact: bool) -> bytes:
    lines = [f"{key} {rule.group}\n" for rule in routing.rules for is_exact, key in rule.keys if is_exact == exact]
    return "".join(sorted(lines)).encode()


def _certificate_list(routing: Routing, folder: Path) -> bytes:
    """The first is served if no other is for the name that the client wants."""
    lines = [f"{folder}/default.pem\n"]
    lines += [" ".join([f"{folder}/tls_{one.name}.pem", *one.hosts]) + "\n" for one in routing.certificates]
    return "".join(lines).encode()


def slots_of(group: TargetGroup) -> int:
    """How many places a group has: a power of two, with room for as many again when it is made."""
    slots = FEWEST_SLOTS
    while slots < len(group.targets):
        slots *= 2
    return slots


def _group(group: TargetGroup, folder: str) -> str:
    http2 = " proto h2" if group.http2 else ""
    lines = [f"\nbackend {group.name}\n  balance roundrobin\n", actions_of(group, folder)]
    for number in range(slots_of(group)):
        target = group.targets[number] if number < len(group.targets) else None
        where = _where(target) if target is not None else f"{NOTHING} disabled"
        lines.append(f"  server s{number} {where}{http2}\n")
    return "".join(lines)


def _where(target: ProxyTarget) -> str:
    host = f"[{target.address}]" if ":" in target.address else target.address
    return f"{host}:{target.port}"


def same_but_targets(before: Routing, now: Routing) -> bool:
    """Whether only endpoints differ, and there are places for them: then nothing needs to be loaded again."""
    return (
        before.rules == now.rules
        and before.certificates == now.certificates
        and before.splits == now.splits
        and [_shape(group) for group in before.groups] == [_shape(group) for group in now.groups]
    )


def _shape(group: TargetGroup) -> tuple[str, bool, int, Filters, bool]:
    return group.name, group.http2, slots_of(group), group.filters, group.resolved


def commands(before: Routing, now: Routing) -> list[str]:
    """What brings a running haproxy from one to the other, of two with ``same_but_targets``."""
    lines = []
    for old, new in zip(before.groups, now.groups, strict=True):
        for number in range(slots_of(new)):
            was = old.targets[number] if number < len(old.targets) else None
            wanted = new.targets[number] if number < len(new.targets) else None
            if was == wanted:
                continue
            server = f"{new.name}/s{number}"
            if wanted is None:
                lines.append(f"set server {server} state maint")
                continue
            lines.append(f"set server {server} addr {wanted.address} port {wanted.port}")
            lines.append(f"set server {server} state ready")
    return lines
