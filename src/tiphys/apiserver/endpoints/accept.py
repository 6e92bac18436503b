"""The Accept header, read as Go's API server reads it: in two steps, with two ways to refuse.

First the route looks whether it produces one of the media types, whatever their weights and parameters. Then clauses
are tried by weight, and what their parameters ask for must be something that the endpoint has.
Sources: RFC 9110 §12.5.1, the documentation of ``go-restful``, and
https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tiphys.api import errors

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
WRITTEN = (JSON, YAML, PROTOBUF)
STREAMED = (f"{JSON};stream=watch", f"{PROTOBUF};stream=watch")


@dataclass(frozen=True, slots=True)
class Clause:
    """One media type of the header."""

    type: str
    subtype: str
    weight: float = 1.0
    parameters: dict[str, str] = field(default_factory=dict)

    def match(self) -> str | None:
        """The media type that is written for this clause."""
        if self.type == self.subtype == "*":
            return JSON
        if self.type != "application":
            return None
        return next((media for media in WRITTEN if self.subtype in ("*", media.partition("/")[2])), None)

    @property
    def view(self) -> tuple[str, str, str] | None:
        """Kind, group and version of the form requested, if another one than the object itself is."""
        parameters = self.parameters
        if not parameters.keys() & {"as", "g", "v"}:
            return None
        return parameters.get("as", ""), parameters.get("g", ""), parameters.get("v", "")


Allows = Callable[[str, tuple[str, str, str] | None], bool]
"""Whether an endpoint writes a media type in the view that a clause asks for."""


def is_produced(accept: str, produced: tuple[str, ...]) -> bool:
    """The first step: whether a route has any of the media types; upper case, and ``application/*``, are not known."""
    types = [part.partition(";")[0].strip(" ") for part in (accept or "*/*").split(",")]
    return any(media == "*/*" or media in produced for media in types)


def choose(accept: str, allows: Allows) -> tuple[str, Clause] | None:
    """The second step: what is written, and the clause that asks for it."""
    if not accept:
        return (JSON, Clause("*", "*")) if allows(JSON, None) else None
    for clause in read_accept(accept):
        media = clause.match()
        if media is None or not allows(media, clause.view):
            continue
        if clause.parameters.get("stream", "watch") not in ("", "watch") or clause.parameters.get("sv"):
            continue
        return media, clause
    return None


def read_accept(header: str) -> list[Clause]:
    """The clauses in upstream's order: by weight, but a wildcard after what it stands for, whatever its weight."""
    clauses: list[Clause] = []
    for part in header.split(","):
        clause = _clause(part.strip(" "))
        if clause is None:
            continue
        at = len(clauses)
        while at > 0 and _goes_before(clause, clauses[at - 1]):
            at -= 1
        clauses.insert(at, clause)
    return clauses


def _clause(text: str) -> Clause | None:
    media, *rest = text.split(";")
    type, slash, subtype = (word.strip(" ") for word in media.partition("/"))
    if not subtype:
        if type != "*" or slash:
            return None
        subtype = "*"
    if "/" in subtype:
        return None
    parameters: dict[str, str] = {}
    weight = 1.0
    for word in rest:
        name, _, value = word.partition("=")
        if not value or "=" in value:
            continue
        if name.strip(" ") == "q":
            weight = _number(value)
        else:
            parameters[name.strip(" ")] = value.strip(" ")
    return Clause(type, subtype, weight, parameters)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _goes_before(one: Clause, other: Clause) -> bool:
    if one.weight > other.weight:
        return True
    return (one.type != "*" and other.type == "*") or (one.subtype != "*" and other.subtype == "*")


def not_produced(produced: tuple[str, ...]) -> errors.StatusError:
    message = f"406: Not Acceptable\n\nAvailable representations: {', '.join(produced)}"
    return errors.StatusError(errors.status(406, "NotAcceptable", message, {}))


def not_acceptable(message: str = "", accepted: tuple[str, ...] = WRITTEN) -> errors.StatusError:
    message = message or f"only the following media types are accepted: {', '.join(accepted)}"
    return errors.StatusError(errors.status(406, "NotAcceptable", message))
