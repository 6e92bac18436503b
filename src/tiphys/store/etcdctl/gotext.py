"""How Go writes values: JSON of protobuf structs, quoted strings, sizes, durations.

Source: https://github.com/etcd-io/etcd/tree/main/etcdctl
"""

from __future__ import annotations

import base64
import json
from typing import Any

from tiphys.runtime.quoting import quote_bytes


def quote(data: bytes | str) -> str:
    """Go's ``%q``; a word of the command line may hold bytes that are no UTF-8."""
    return quote_bytes(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data)


def unquote(text: str) -> str:
    """Go's ``strconv.Unquote`` for what people type: a double-quoted, single-quoted or plain word."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return str(json.loads(text)) if "\\x" not in text else text[1:-1].encode().decode("unicode_escape")
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'`":
        return text[1:-1]
    return text


def size(count: int) -> str:
    """Bytes as people read them: ``20 kB``."""
    if count < 10:
        return f"{count} B"
    units = ["B", "kB", "MB", "GB", "TB"]
    value = float(count)
    unit = 0
    while value >= 1000 and unit < len(units) - 1:
        value /= 1000
        unit += 1
    value = int(value * 10 + 0.5) / 10
    return f"{value:.1f} {units[unit]}" if value < 10 else f"{value:.0f} {units[unit]}"


def to_json(value: Any) -> str:
    """Go's ``json.Marshal``: no spaces, ``<``, ``>`` and ``&`` escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def plain(message: Any) -> dict[str, Any]:
    """A protobuf message as Go's JSON of its struct: fields by number, empty ones left out, bytes in base64."""
    fields: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        if descriptor.containing_oneof is not None:
            name = "".join(part.capitalize() for part in descriptor.name.split("_"))
            fields[descriptor.containing_oneof.name.capitalize()] = {name: plain(value)}
        elif descriptor.is_repeated:
            fields[descriptor.name] = [_plain_value(descriptor, each) for each in value]
        else:
            fields[descriptor.name] = _plain_value(descriptor, value)
    return fields


def _plain_value(descriptor: Any, value: Any) -> Any:
    if descriptor.type == descriptor.TYPE_MESSAGE:
        return plain(value)
    if descriptor.type == descriptor.TYPE_BYTES:
        return base64.b64encode(value).decode()
    return value
