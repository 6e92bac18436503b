"""The tables of facts beside the published definitions: sorted text, each thing once, nothing missing."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

import tiphys.api
from tiphys.api.definitions import definitions
from tiphys.api.resources import builtin_scheme
from tiphys.api.schema import has_schema, schema_of

ROOT = Path(__file__).parents[2]
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


def test_the_packed_definitions_are_those_that_were_published(tmp_path: Path) -> None:
    """``build_hooks/schema.py --check`` sees a file of another level, and one that is cut off."""
    script = ROOT / "build_hooks/schema.py"

    def check(root: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, root / "build_hooks/schema.py", "--check"], capture_output=True, text=True, check=False
        )

    assert check(ROOT).returncode == 0
    target = tmp_path / "src/tiphys/api/data/definitions.json.gz"
    target.parent.mkdir(parents=True)
    (tmp_path / "build_hooks").mkdir()
    shutil.copy(script, tmp_path / "build_hooks")
    target.write_bytes(gzip.compress(b"{}"))
    assert "digest" in check(tmp_path).stderr
    target.write_bytes((ROOT / "src/tiphys/api/data/definitions.json.gz").read_bytes()[:1000])
    assert "cannot be read" in check(tmp_path).stderr
