"""Claims that a token does not hold but names a place of: where they are asked for. Pure.

Source: https://openid.net/specs/openid-connect-core-1_0.html#AggregatedDistributedClaims
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tiphys.api.object import Object
from tiphys.apiserver.authn.authenticator import Rejected

_NAMES, _SOURCES = "_claim_names", "_claim_sources"


class ClaimPlace(NamedTuple):
    """A URL that answers with a token that holds the claim, and what opens it; empty: nothing is needed."""

    url: str
    access_token: str


def place_of(claims: Object, claim: str) -> ClaimPlace | None:
    """Where a claim is asked for; None if it is in the token, or nowhere. Raises ``Rejected``."""
    if claim in claims or _NAMES not in claims:
        return None
    names = _texts(claims[_NAMES], "error parsing distributed claim names: they are no mapping of texts")
    if _SOURCES not in claims:
        raise _rejected("no claim sources")
    sources = claims[_SOURCES]
    if not isinstance(sources, dict) or not all(isinstance(source, dict) for source in sources.values()):
        raise _rejected("could not parse claim sources: they are no mapping of objects")
    source = names.get(claim)
    if source is None:
        return None
    if source not in sources:
        raise Rejected(
            "oidc: could not expand distributed claims: id token _claim_names contained a source"
            f" {source} missing in _claims_sources"
        )
    wanted = {name: sources[source].get(name) or "" for name in ("endpoint", "access_token")}
    place = _texts(wanted, "could not parse claim sources: endpoint and access_token are texts")
    return ClaimPlace(place["endpoint"], place["access_token"]) if place["endpoint"] else None


def _texts(value: Any, problem: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _rejected(problem)
    return value


def _rejected(problem: str) -> Rejected:
    return Rejected(f"oidc: could not expand distributed claims: oidc: {problem}")
