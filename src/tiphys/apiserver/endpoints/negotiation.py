"""In which form a client gets its answer: JSON, YAML or protobuf; the object itself, a table or its metadata only.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources
"""

from __future__ import annotations

from dataclasses import dataclass

from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.accept import (
    JSON,
    PROTOBUF,
    STREAMED,
    WRITTEN,
    YAML,
    choose,
    is_produced,
    not_acceptable,
    not_produced,
)
from tiphys.runtime.remembering import remembered

TABLE, PARTIAL, PARTIAL_LIST = "Table", "PartialObjectMetadata", "PartialObjectMetadataList"
_LISTED = (*WRITTEN, *STREAMED)
_PRETTY_AGENTS = ("curl", "Wget", "Mozilla/5.0")
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))


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
    def is_protobuf(self) -> bool:
        """The object itself, in protobuf."""
        return self.media == PROTOBUF and not self.kind

    @property
    def is_plain(self) -> bool:
        return self.media == JSON and not self.kind and not self.pretty


PLAIN = Form()


def negotiate(call: Call, *, has_columns: bool = True, has_protobuf: bool = True, routed: bool = True) -> Form:
    """Raises 406 if nothing that the client accepts can be sent.

    Reviews, for one, have no columns of a table; custom resources have no protobuf form, but for their metadata, and no
    route that looks at what it produces.
    """
    verb = call.info.verb
    produced = () if not routed else _LISTED if verb in ("list", "watch") else WRITTEN
    media, kind, version, asks_pretty = _accepted(
        call.request.headers.get("accept", ""), produced, has_columns=has_columns, has_protobuf=has_protobuf
    )
    if media == YAML and verb == "watch":
        raise not_acceptable(accepted=STREAMED)
    pretty = wants_pretty(call) or asks_pretty
    if not (kind or pretty or media != JSON):
        return PLAIN
    return Form(media, kind, version, pretty, call.parameter("includeObject") or "Metadata")


def negotiate_document(call: Call, produced: tuple[str, ...] = ()) -> Form:
    """For what has one form only: documents, and lists of what is served. ``produced`` is what the route can write."""
    accept = call.request.headers.get("accept", "")
    if produced and not is_produced(accept, produced):
        raise not_produced(produced)
    chosen = choose(accept, _itself)
    if chosen is None:
        raise not_acceptable()
    return Form(chosen[0], pretty=wants_pretty(call))


def negotiate_failure(call: Call) -> Form:
    """A failure is sent in any case; to clients that accept none of our forms, as indented JSON."""
    chosen = choose(call.request.headers.get("accept", ""), _itself)
    if chosen is None:
        return Form(JSON, pretty=True)
    return Form(chosen[0], pretty=wants_pretty(call))


def wants_pretty(call: Call) -> bool:
    if call.parameters and (asked := call.parameter("pretty")):
        return asked in _TRUE
    return call.user_agent.startswith(_PRETTY_AGENTS)


def _itself(media: str, view: tuple[str, str, str] | None) -> bool:
    return view is None


@remembered(256, longest=512)
def _accepted(
    accept: str, produced: tuple[str, ...], *, has_columns: bool, has_protobuf: bool
) -> tuple[str, str, str, bool]:
    """Media type, kind and version of the view, and whether the clause asks for indentation."""

    def allows(media: str, view: tuple[str, str, str] | None) -> bool:
        if view is None:
            return has_protobuf or media != PROTOBUF
        kind, group, version = view
        known = kind in (PARTIAL, PARTIAL_LIST) or (kind == TABLE and has_columns and media != PROTOBUF)
        return known and group == "meta.k8s.io" and version in ("v1", "v1beta1")

    if produced and not is_produced(accept, produced):
        raise not_produced(produced)
    chosen = choose(accept, allows)
    if chosen is None:
        raise not_acceptable()
    media, clause = chosen
    kind, _, version = clause.view or ("", "", "v1")
    return media, kind, version, clause.parameters.get("pretty") == "1"
