"""Names and values of header fields from their bytes, for every version of HTTP. A leaf: imports nothing of ours.

Source: RFC 9110, section 5
"""

from __future__ import annotations

_KNOWN_FIELDS = (
    "Accept Accept-Encoding Accept-Language Authorization Cache-Control Connection Content-Encoding Content-Length "
    "Content-Type Date ETag Expect Host If-None-Match Origin Sec-WebSocket-Extensions Sec-WebSocket-Key "
    "Sec-WebSocket-Protocol Sec-WebSocket-Version Transfer-Encoding Upgrade User-Agent Vary X-Forwarded-For "
    "X-Stream-Protocol-Version Impersonate-User Impersonate-Group Kubectl-Command Kubectl-Session Audit-Id Warning "
    "X-Kubernetes-PF-FlowSchema-UID X-Kubernetes-PF-PriorityLevel-UID"
)
_FIELD_NAMES: dict[bytes, str] = {}
for _name in _KNOWN_FIELDS.split():
    _FIELD_NAMES[_name.encode()] = _FIELD_NAMES[_name.lower().encode()] = _name.lower()


def text(data: bytes) -> str:
    """Bytes of a head as text: UTF-8 if they are, else Latin-1, so that every byte sequence has one."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def field_name(data: bytes) -> str:
    """A field's name in lower case."""
    return _FIELD_NAMES.get(data) or text(data).lower()


def read_fields(fields: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Fields as they came, names in lower case."""
    known = _FIELD_NAMES
    try:
        return [(known.get(name) or name.decode().lower(), value.decode()) for name, value in fields]
    except UnicodeDecodeError:
        return [(field_name(name), text(value)) for name, value in fields]
