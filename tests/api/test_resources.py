"""The scheme's rows against the discovery answers of a v1.36 server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.recorded.conversations import cases
from tiphys.api.definitions import definitions
from tiphys.api.resources import builtin_scheme


def recorded() -> list[tuple[str, str, dict[str, Any]]]:
    found = []
    for case in cases("discovery"):
        body = case["answers"][0]["body"]
        if isinstance(body, dict) and body.get("kind") == "APIResourceList":
            group, _, version = body["groupVersion"].rpartition("/")
            found.append((group, version, body))
    return found


@pytest.mark.parametrize(("group", "version", "body"), recorded())
def test_rows_say_what_discovery_says(group: str, version: str, body: dict[str, Any]) -> None:
    scheme = builtin_scheme()
    served: dict[str, dict[str, Any]] = {}
    for row in scheme.resources():
        if row.group != group or version not in row.versions:
            continue
        served[row.plural] = {
            "kind": row.kind,
            "namespaced": row.namespaced,
            "singularName": row.singular,
            "verbs": list(row.verbs),
            "shortNames": list(row.short_names),
            "categories": list(row.categories),
        }
        for sub in row.subresources:
            served[f"{row.plural}/{sub.name}"] = {
                "kind": sub.kind.kind if sub.kind else row.kind,
                "namespaced": row.namespaced,
                "singularName": "",
                "verbs": list(sub.verbs),
                "shortNames": [],
                "categories": [],
            }
    wanted = {
        r["name"]: {
            **{k: r[k] for k in ("kind", "namespaced", "singularName", "verbs")},
            "shortNames": r.get("shortNames", []),
            "categories": r.get("categories", []),
        }
        for r in body["resources"]
    }
    assert served == wanted


def test_every_row_has_its_published_definition() -> None:
    for row in builtin_scheme().resources():
        for version in row.versions:
            assert row.definitions[version] in definitions()


def test_events_of_both_groups_are_stored_alike() -> None:
    scheme = builtin_scheme()
    core, newer = scheme.resource("", "events"), scheme.resource("events.k8s.io", "events")
    assert core is not None
    assert newer is not None
    assert core.gvk(core.storage_version).kind == newer.gvk(newer.storage_version).kind
    assert core.storage_prefix == newer.storage_prefix
