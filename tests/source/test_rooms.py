"""No folder with more than about twenty modules of its own: beyond that, nobody finds the right one by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST = 22
FOLDERS = sorted({path.parent for path in (ROOT / "src" / "tiphys").rglob("*.py")})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT / "src")))
def test_a_folder_has_few_modules(folder: Path) -> None:
    modules = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    assert len(modules) <= MOST, sorted(modules)
