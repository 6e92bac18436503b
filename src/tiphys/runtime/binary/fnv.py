"""The hash functions FNV-1 and FNV-1a, in which names, checksums and container hashes are written down. A leaf.

Source: http://www.isthe.com/chongo/tech/comp/fnv/
"""

from __future__ import annotations

_OFFSET_32, _PRIME_32 = 0x811C9DC5, 0x01000193
_OFFSET_64, _PRIME_64 = 0xCBF29CE484222325, 0x100000001B3


def fnv32(data: bytes) -> int:
    """FNV-1: multiply, then mix the byte in."""
    value = _OFFSET_32
    for byte in data:
        value = (value * _PRIME_32 & 0xFFFFFFFF) ^ byte
    return value


def fnv32a(data: bytes) -> int:
    """FNV-1a: mix the byte in, then multiply."""
    value = _OFFSET_32
    for byte in data:
        value = (value ^ byte) * _PRIME_32 & 0xFFFFFFFF
    return value


def fnv64a(data: bytes) -> int:
    value = _OFFSET_64
    for byte in data:
        value = (value ^ byte) * _PRIME_64 & 0xFFFFFFFFFFFFFFFF
    return value
