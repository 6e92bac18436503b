"""In which form a client wants its answer: JSON or YAML, the object itself, a table or its metadata only.

Sources: RFC 9110 §12, and
https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from tiphys.api import errors
from tiphys.apiserver.call import Call

JSON, YAML = "application/json", "application/yaml"
TABLE, PARTIAL, PARTIAL_LIST = "Table", "PartialObjectMetadata", "PartialObjectMetadataList"
_WRITTEN = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
_OFFERED = f"{_WRITTEN}, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
_PRETTY_AGENTS = ("curl", "Wget", "Mozilla/5.0")


@dataclass(frozen=True, slots=True)
class Form:
    """``kind`` is empty for the object as it is; ``version`` is that of meta.k8s.io for the other kinds."""

    media: str = JSON
    kind: str = ""
    version: str = "v1"
    pretty: bool = False
    include: str = "Metadata"
    """What a table's rows hold of their objects: None, Metadata or Object."""

    @property
    def is_plain(self) -> bool:
        return self.media == JSON and not self.kind and not self.pretty


PLAIN = Form()


def negotiate(call: Call, has_columns: bool = True) -> Form:
    """Raises 406 where nothing that the client accepts can be sent; reviews, for one, have no columns of a table."""
    media, kind, version = _accepted(call.request.headers.get("accept", ""), has_columns)
    pretty = _wants_pretty(call)
    if not (kind or pretty or media != JSON):
        return PLAIN
    return Form(media, kind, version, pretty, call.parameter("includeObject") or "Metadata")


def _wants_pretty(call: Call) -> bool:
    if "pretty" in call.parameters:
        return call.parameter("pretty").lower() not in ("false", "0")
    return call.user_agent.startswith(_PRETTY_AGENTS)


@lru_cache(maxsize=256)
def _accepted(accept: str, has_columns: bool) -> tuple[str, str, str]:
    """The first acceptable form, by weight and then in the order given."""
    if not accept:
        return JSON, "", ""
    refused_form = False
    for media, parameters in _by_weight(accept):
        chosen = _media(media)
        if chosen is None:
            continue
        kind = parameters.get("as", "")
        if kind and (not _is_known(kind, parameters) or (kind == TABLE and not has_columns)):
            refused_form = True
            continue
        if parameters.get("stream", "watch") != "watch":
            continue
        return chosen, kind, parameters.get("v", "")
    raise _form_not_acceptable() if refused_form else not_acceptable()


def _form_not_acceptable() -> errors.StatusError:
    """The media type can be written, only not the kind that it should hold: other words for the same code."""
    message = f"only the following media types are accepted: {_WRITTEN}"
    return errors.StatusError(errors.status(406, "NotAcceptable", message))


def not_acceptable() -> errors.StatusError:
    message = f"406: Not Acceptable\n\nAvailable representations: {_OFFERED}"
    return errors.StatusError(errors.status(406, "NotAcceptable", message, {}))


def _media(media: str) -> str | None:
    if media in ("*/*", "application/*", JSON):
        return JSON
    return YAML if media == YAML else None


def _is_known(kind: str, parameters: dict[str, str]) -> bool:
    right = parameters.get("g") == "meta.k8s.io" and parameters.get("v") in ("v1", "v1beta1")
    return right and kind in (TABLE, PARTIAL, PARTIAL_LIST)


def _by_weight(accept: str) -> list[tuple[str, dict[str, str]]]:
    found: list[tuple[float, str, dict[str, str]]] = []
    for part in accept.split(","):
        media, *rest = [word.strip() for word in part.split(";")]
        parameters = dict(word.partition("=")[::2] for word in rest)
        found.append((_weight(parameters.pop("q", "1")), media.lower(), parameters))
    found.sort(key=lambda clause: -clause[0])
    return [(media, parameters) for weight, media, parameters in found if weight > 0]


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
