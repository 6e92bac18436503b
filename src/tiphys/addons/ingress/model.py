"""What the ingress proxy serves, free of API objects: the endpoints of each host and path, and the certificates.

Everything here was checked: a name is a DNS name, an address an address, a path printable without spaces. What is
rendered from it can be read in one way only.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

ANY_HOST = "*"
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_HOST = re.compile(rf"(\*{{1,2}}\.)?{_LABEL}(\.{_LABEL})*")
_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*")
_NAME = re.compile(r"[a-z0-9A-Z]([-a-z0-9A-Z_.]*[a-z0-9A-Z])?")
LONGEST = 1024


class Unusable(Exception):
    """A part of an object that cannot be served; the message names it and says why."""


def checked_host(text: str, field_name: str = "host") -> str:
    """A host that may be in a rule: a DNS name, with ``*.`` before it or not. Raises ``Unusable``."""
    if len(text) > 253 or _HOST.fullmatch(text) is None:
        raise Unusable(f"{field_name} {text[:80]!r} is no DNS name")
    return text


def checked_path(text: str, field_name: str = "path") -> str:
    """Raises ``Unusable``."""
    if len(text) > LONGEST or _PATH.fullmatch(text) is None:
        raise Unusable(
            f"{field_name} {text[:80]!r} has characters that a path in a URL cannot have, or does not begin with /"
        )
    return text


@dataclass(frozen=True, slots=True, order=True)
class ProxyTarget:
    """One endpoint. Raises ``ValueError`` for what is no address or port."""

    address: str
    port: int

    def __post_init__(self) -> None:
        ipaddress.ip_address(self.address)
        if not 0 < self.port < 65536:
            raise ValueError(f"port {self.port}")


@dataclass(frozen=True, slots=True)
class HeaderChange:
    """``operation`` is ``set``, ``add`` or ``del``."""

    operation: str
    name: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class PathChange:
    """What stands in place of the path, or of its first ``prefix`` characters: of ``/foo`` and ``/foo/`` four. The
    value of a prefix has no slash at its end; what would be an empty path is ``/``."""

    value: str
    prefix: int | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where a client is sent. Empty parts are the request's own; without a port it is the scheme's."""

    scheme: str = ""
    host: str = ""
    port: int | None = None
    code: int = 302
    path: PathChange | None = None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What the endpoints get to see in place of the client's host and path."""

    host: str = ""
    path: PathChange | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """What happens to the requests and answers of a group."""

    request: tuple[HeaderChange, ...] = ()
    response: tuple[HeaderChange, ...] = ()
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """Endpoints that share requests."""

    name: str
    targets: tuple[ProxyTarget, ...] = ()
    http2: bool = False
    """Whether they are spoken to in HTTP/2 without TLS (appProtocol kubernetes.io/h2c)."""
    filters: Filters = Filters()
    resolved: bool = True
    """Whether the object behind it exists; else every answer is 500."""

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ValueError(f"{self.name!r} is no name of a group")


@dataclass(frozen=True, slots=True)
class Split:
    """Stands in a rule where a group does, and sends each request to one of several groups, at random by their shares:
    each the name of a group and a number from 1."""

    name: str
    shares: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class PathRule:
    """``host`` is a name, ``*.NAME`` for one label before it, ``**.NAME`` for several, or ``*`` for any; ``group``
    names a group or a split."""

    host: str
    path: str
    group: str
    exact: bool = False
    schemes: tuple[str, ...] = ("http", "https")

    @property
    def keys(self) -> list[tuple[bool, str]]:
        """What it is found by: whether exactly, and the key, of each scheme. A prefix is one of whole elements of the
        path, so that both ends are compared with a slash behind them."""
        path = self.path if self.exact else self.path.rstrip("/") + "/"
        return [(self.exact, f"{scheme}:{self.host}{path}") for scheme in self.schemes]


@dataclass(frozen=True, slots=True)
class ServedCertificate:
    """``pem`` is the key and the chain; ``hosts`` those that it is served for, or none for what it says itself."""

    name: str
    pem: bytes = field(repr=False)
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Routing:
    """All that is served at one time."""

    rules: tuple[PathRule, ...] = ()
    groups: tuple[TargetGroup, ...] = ()
    certificates: tuple[ServedCertificate, ...] = ()
    splits: tuple[Split, ...] = ()
