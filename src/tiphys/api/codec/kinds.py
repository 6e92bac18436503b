"""Which kinds a body may name: what upstream's schemes know, served or not.

A body of a wrong kind is refused in one of several ways, depending on whether its kind is known at all.
``data/kinds.txt`` lists the known kinds by API version.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tiphys.api.scheme import GroupVersionKind

LEGACY = "pkg/api/legacyscheme/scheme.go:30"
_SCHEMES = {
    "apiextensions.k8s.io": "k8s.io/apiextensions-apiserver/pkg/apiserver/apiserver.go:55",
    "apiregistration.k8s.io": "k8s.io/kube-aggregator/pkg/apiserver/scheme/scheme.go:28",
}
_META_KINDS = frozenset(
    ("CreateOptions", "DeleteOptions", "GetOptions", "ListOptions", "PatchOptions", "UpdateOptions", "WatchEvent")
)


@cache
def _known() -> dict[str, frozenset[str]]:
    """By API version."""
    text = (Path(__file__).parent.parent / "data" / "kinds.txt").read_text()
    rows = (line.partition(": ") for line in text.splitlines() if not line.startswith("#"))
    return {api_version: frozenset(kinds.split()) for api_version, _, kinds in rows}


def go_type(api_version: str, kind: str, expected: GroupVersionKind) -> str | None:
    """The Go type of a kind, if the scheme that serves ``expected`` knows it."""
    if expected.group in _SCHEMES:
        group = api_version.rpartition("/")[0]
        own = group == expected.group and kind.removesuffix("List") == expected.kind
        return f"{api_version.rpartition('/')[2]}.{kind}" if own or kind in _META_KINDS else None
    kinds = _known().get(api_version)
    if kinds is None or not (kind in kinds or kind in _META_KINDS):
        return None
    # The kinds that every version has are of one Go type.
    return f"v1.{kind}" if kind in _META_KINDS else f"{api_version.rpartition('/')[2]}.{kind}"


def scheme_name(expected: GroupVersionKind) -> str:
    """How upstream names the scheme in its messages: by the place in its source that made it."""
    return _SCHEMES.get(expected.group, LEGACY)


def internal_type(expected: GroupVersionKind) -> str:
    """The Go type of the version-less form: ``core.ConfigMap``."""
    return f"{expected.group.partition('.')[0] or 'core'}.{expected.kind}"
