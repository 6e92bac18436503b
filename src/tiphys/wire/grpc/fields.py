"""Which header fields make a request of HTTP/2 (RFC 9113, section 8). Pure."""

from __future__ import annotations

from tiphys.wire.grpc.hpack import Field

_PSEUDO = frozenset((":method", ":scheme", ":path", ":authority"))
_REQUIRED = (":method", ":scheme", ":path")
_OF_CONNECTION = frozenset(("connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"))


def problem_of_request(fields: list[Field]) -> str:
    """Why the fields make no request; ``""`` if they do."""
    pseudo: dict[str, str] = {}
    regular = False
    for name, value in fields:
        if name.startswith(":"):
            if regular or name in pseudo or name not in _PSEUDO:
                return f"{name} has no place here"
            pseudo[name] = value
        else:
            regular = True
            if problem := _problem_of_field(name, value):
                return problem
    missing = [name for name in _REQUIRED if not pseudo.get(name)]
    if missing:
        return f"{missing[0]} is missing"
    lengths = {value for name, value in fields if name == "content-length"}
    if len(lengths) > 1 or not all(length.isascii() and length.isdigit() for length in lengths):
        return "content-length is no number"
    return ""


def problem_of_trailers(fields: list[Field]) -> str:
    """Why the fields are no trailers; ``""`` if they are."""
    for name, value in fields:
        if name.startswith(":"):
            return f"{name} has no place in trailers"
        if problem := _problem_of_field(name, value):
            return problem
    return ""


def _problem_of_field(name: str, value: str) -> str:
    if not name or name != name.lower():
        return f"the field name {name!r} is not in lower case"
    if name in _OF_CONNECTION or (name == "te" and value != "trailers"):
        return f"{name} has no place in HTTP/2"
    return ""


def declared_length(fields: list[Field]) -> int | None:
    """Bytes of the body that a request says it has; None if it does not say."""
    for name, value in fields:
        if name == "content-length":
            return int(value[:20])
    return None
