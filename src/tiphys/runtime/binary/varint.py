"""Numbers as protocol buffers write them: seven bits a byte, the lowest first. A leaf, pure.

Source: https://protobuf.dev/programming-guides/encoding/#varints
"""

from __future__ import annotations

_SMALL_END = 1024


def _written(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_SMALL = [_written(number) for number in range(_SMALL_END)]
"""Most numbers are lengths, and short."""


def varint(number: int) -> bytes:
    """Write a number. Negative ones are written in two's complement, of 64 bits."""
    if 0 <= number < _SMALL_END:
        return _SMALL[number]
    return _written(number if number >= 0 else number + (1 << 64))


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place behind it. Raises ``ValueError`` if it does not end, or is too long."""
    result = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("unexpected EOF")
        if shift > 63:
            raise ValueError("integer overflow")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
