"""The tables of facts beside the published definitions: sorted text, each thing once, nothing missing."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

import tiphys.api
from tiphys.api.definitions import definitions
from tiphys.api.resources import builtin_scheme
from tiphys.api.schema import has_schema, schema_of

DATA = Path(tiphys.api.__file__).parent / "data"


def rows(name: str, separator: str) -> list[str]:
    text = (DATA / name).read_text().rstrip("\n")
    return [part for part in text.split(separator) if not part.startswith("#")]


@pytest.mark.parametrize(("name", "separator"), [("types.txt", "\n\n"), ("kinds.txt", "\n")])
def test_rows_are_sorted_and_there_once(name: str, separator: str) -> None:
    keys = [row.split()[0] for row in rows(name, separator)]
    assert keys == sorted(set(keys))


def test_kinds_are_sorted_and_there_once() -> None:
    for row in rows("kinds.txt", "\n"):
        kinds = row.split()[1:]
        assert kinds == sorted(set(kinds)), row


def test_every_type_can_be_read_and_names_types_that_are_there() -> None:
    for row in rows("types.txt", "\n\n"):
        name, *_ = row.split()
        fields = [line.split(" ", 1) for line in row.splitlines()[1:]]
        assert list(schema_of(name).fields) == [field for field, _ in fields]
        for _, described in fields:
            value = orjson.loads(described)
            assert orjson.dumps(value).decode() == described  # one spelling
            assert value[-1] not in ("", {})  # trailing empty ones are left out


def test_every_field_that_is_published_has_its_row() -> None:
    for name, published in definitions().items():
        properties = published.get("properties")
        if properties and has_schema(name):
            assert set(properties) == set(schema_of(name).fields), name


def test_every_served_kind_is_known() -> None:
    known = {row.split(":")[0]: row.split()[1:] for row in rows("kinds.txt", "\n")}
    for resource in builtin_scheme().resources():
        assert all(has_schema(definition) for definition in resource.definitions.values())
        if resource.group not in ("apiextensions.k8s.io", "apiregistration.k8s.io"):
            for version in resource.versions:
                kinds = known[resource.gvk(version).api_version]
                assert {resource.kind, resource.list_kind} <= set(kinds) or "list" not in resource.verbs, resource
