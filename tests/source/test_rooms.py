"""No folder with more than about twenty modules of its own: beyond that, nobody finds the right one by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST = 22
LARGER = {
    "apiserver/admission": 28,  # one plugin per file
    "apiserver/endpoints": 27,  # one verb per file
    "scheduler/plugins": 24,  # one plugin per file
    "cel": 28,
    "cluster": 24,
    "cli": 34,  # one command per file
    "runtime": 24,
    "wire": 27,
}
"""Folders that may have more, and how many: ceilings only go down."""
FOLDERS = sorted({path.parent for path in (ROOT / "src" / "tiphys").rglob("*.py")})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT / "src")))
def test_a_folder_has_few_modules(folder: Path) -> None:
    modules = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    name = str(folder.relative_to(ROOT / "src" / "tiphys"))
    assert len(modules) <= LARGER.get(name, MOST), sorted(modules)
