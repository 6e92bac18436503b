"""The recipes of docs/extending.md, run as they stand there.

Under each heading of second level, a line that is only a file name in backquotes gives the name of the block that
follows it; blocks marked ``diff`` are changes to the source. Each recipe is tried in a folder of its own, on a copy of
the source if it changes any.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"(?:^`(?P<name>[\w./]+)`:\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass
class Recipe:
    title: str
    files: dict[str, str] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)


def recipes() -> list[Recipe]:
    sections = (ROOT / "docs/extending.md").read_text().split("\n## ")[1:]
    return [recipe for section in sections if (recipe := _recipe(section)).files]


def _recipe(section: str) -> Recipe:
    recipe = Recipe(section.partition("\n")[0])
    for block in _BLOCK.finditer(section):
        if block["name"]:
            recipe.files[block["name"]] = block["text"]
        elif block["language"] == "diff":
            recipe.changes.append(block["text"])
    return recipe


@pytest.mark.parametrize("recipe", [pytest.param(recipe, id=recipe.title.replace(" ", "-")) for recipe in recipes()])
def test_recipe_works_as_written(recipe: Recipe, tmp_path: Path) -> None:
    if recipe.changes or any(name.startswith("src/") for name in recipe.files):
        shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for change in recipe.changes:
        subprocess.run(["git", "apply", "-p1", "-"], input=change, text=True, cwd=tmp_path, check=True)
    for name, text in recipe.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    tests = [name for name in recipe.files if Path(name).name.startswith("test_")]
    assert tests, "a recipe has a test"
    paths = [str(tmp_path / "src")] * (tmp_path / "src").exists() + [str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", *tests],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_kind_of_recipe_is_there() -> None:
    titles = {recipe.title for recipe in recipes()}
    assert titles == {
        "An admission plugin",
        "A scheduler plugin",
        "A controller",
        "A cloud",
        "A resource kind",
        "A kubelet volume type",
        "A command",
    }


def test_the_index_lists_every_page_and_every_link_leads_somewhere() -> None:
    index = (ROOT / "docs/index.md").read_text()
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if page.name != "index.md" and page.name not in index]
    assert missing == []
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []
