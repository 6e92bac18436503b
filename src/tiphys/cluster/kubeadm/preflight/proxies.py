"""Which proxy a connection would go by, as Go's programs read the environment. Pure.

Source: https://pkg.go.dev/golang.org/x/net/http/httpproxy#Config
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping


def proxy_for(host: str, environment: Mapping[str, str]) -> str:
    """The proxy of an https connection to ``host``; empty without one."""
    given = environment.get("HTTPS_PROXY") or environment.get("https_proxy") or ""
    exempt = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    if not given or host == "localhost" or _is_loopback(host):
        return ""
    return "" if any(_names(entry.strip().lower(), host.lower()) for entry in exempt.split(",")) else given


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_loopback


def _names(entry: str, host: str) -> bool:
    """Whether an entry of NO_PROXY is about a host: all, an address, a range, a name, or what is below a domain."""
    if not entry:
        return False
    if entry == "*":
        return True
    address = _address(host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            return False
    name = entry.removeprefix("*").partition(":")[0]
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
