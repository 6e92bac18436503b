"""IP addresses and networks in API fields.

Old fields took forms that other software reads differently (leading zeros, IPv4 inside IPv6); these are refused now,
except if an object already has them. New fields take the canonical form only. Source: KEP-4858, IP/CIDR validation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address

from tiphys.api import fielderrors as field
from tiphys.api.gotext import quote
from tiphys.api.meta.addresses import Address, Network, canonical, cidr_text, parse_cidr_sloppy, parse_sloppy
from tiphys.validation.shared.common import Errors


def _is_mapped(address: Address) -> bool:
    return isinstance(address, IPv6Address) and address.ipv4_mapped is not None


def _has_leading_zeros(text: str) -> bool:
    tail = text.rpartition(":")[2] if ":" in text else text
    return "." in tail and any(len(part) > 1 and part[0] == "0" for part in tail.split("."))


def is_ipv6(text: str) -> bool:
    address = parse_sloppy(text)
    return isinstance(address, IPv6Address) and not _is_mapped(address)


def dual_stack(texts: Sequence[str]) -> bool:
    """Both families are there."""
    families = {is_ipv6(text) for text in texts if parse_sloppy(text) is not None}
    return len(families) == 2


def _strict(errs: Errors, value: str, path: str) -> Address | None:
    """The address, or None with the complaint reported."""
    address = parse_sloppy(value)
    if address is None:
        text = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        errs.append(field.invalid(path, value, text))
        return None
    good = True
    if _has_leading_zeros(value):
        errs.append(field.invalid(path, value, "must not have leading 0s"))
        good = False
    elif _is_mapped(address):
        errs.append(field.invalid(path, value, "must not be an IPv4-mapped IPv6 address"))
        good = False
    return address if good else None


def legacy_ip(errs: Errors, value: str, path: str, existing: Iterable[str] = ()) -> bool:
    """An address in a field that takes any form of it; what is already there may stay."""
    return value in existing or _strict(errs, value, path) is not None


def ip(errs: Errors, value: str, path: str) -> None:
    """An address in canonical form."""
    address = _strict(errs, value, path)
    if address is not None and value != canonical(address):
        errs.append(field.invalid(path, value, f"must be in canonical form ({quote(canonical(address))})"))


def _strict_cidr(errs: Errors, value: str, path: str) -> Network | None:
    parsed = parse_cidr_sloppy(value)
    if parsed is None:
        text = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
        errs.append(field.invalid(path, value, text))
        return None
    address, network = parsed
    host, _, bits = value.partition("/")
    if _has_leading_zeros(host) or (len(bits) > 1 and bits[0] == "0"):
        text = "must not have leading 0s in IP or prefix length"
    elif _is_mapped(address):
        text = "must not have an IPv4-mapped IPv6 address"
    elif address != network.network_address:
        text = "must not have bits set beyond the prefix length"
    else:
        return network
    errs.append(field.invalid(path, value, text))
    return None


def legacy_cidr(errs: Errors, value: str, path: str, existing: Iterable[str] = ()) -> bool:
    return value in existing or _strict_cidr(errs, value, path) is not None


def cidr(errs: Errors, value: str, path: str) -> None:
    """A network in canonical form."""
    network = _strict_cidr(errs, value, path)
    if network is not None and value != cidr_text(network):
        errs.append(field.invalid(path, value, f"must be in canonical form ({quote(cidr_text(network))})"))


def interface_address(errs: Errors, value: str, path: str) -> None:
    """An address with the length of its network's prefix, such as ``192.168.1.5/24``, in canonical form."""
    parsed = parse_cidr_sloppy(value)
    if parsed is None:
        text = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"
        errs.append(field.invalid(path, value, text))
        return
    address, network = parsed
    bits = network.prefixlen - 96 if _is_mapped(address) and network.prefixlen > 32 else network.prefixlen
    form = f"{canonical(address)}/{bits}"
    if value != form:
        errs.append(field.invalid(path, value, f"must be in canonical form ({quote(form)})"))


def warn_ip(path: str, value: str) -> list[str]:
    """The warning about an address that is accepted, but in a form that it should not have."""
    address = parse_sloppy(value)
    if address is None:
        return []
    if _has_leading_zeros(value) or _is_mapped(address):
        return [f"{path}: non-standard IP address {quote(value)} is invalid: use {quote(canonical(address))}"]
    if address.version == 6 and str(address) != value:
        form = quote(str(address))
        return [f"{path}: IPv6 address {quote(value)} should be in RFC 5952 canonical format ({form})"]
    return []


def warn_cidr(path: str, value: str) -> list[str]:
    """The warnings about a network in an ambiguous or non-canonical form; none if it does not parse."""
    parsed = parse_cidr_sloppy(value)
    if parsed is None:
        return []
    address, network = parsed
    warnings = []
    if address != network.network_address:
        single = quote(f"{canonical(address)}/{address.max_prefixlen}")
        form = quote(cidr_text(network))
        warnings.append(
            f"{path}: CIDR value {quote(value)} is ambiguous in this context (should be {form} or {single}?)"
        )
    host, _, bits = value.partition("/")
    if _has_leading_zeros(host) or (len(bits) > 1 and bits[0] == "0") or _is_mapped(address):
        warnings.append(f"{path}: non-standard CIDR value {quote(value)} is invalid: use {quote(cidr_text(network))}")
    if not warnings and address.version == 6 and f"{address}/{bits}" != value:
        form = quote(f"{address}/{bits}")
        warnings.append(f"{path}: IPv6 CIDR value {quote(value)} should be in RFC 5952 canonical format ({form})")
    return warnings
