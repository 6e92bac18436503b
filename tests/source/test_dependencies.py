"""What is declared as a dependency is imported, and what is imported is declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from tests.source.imports import trees

ROOT = Path(__file__).parents[2]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [each for extra, needs in project["optional-dependencies"].items() if extra != "test" for each in needs]
    names = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in [*project["dependencies"], *extras])
    return {_normal(name[0]) for name in names if name}


def _imported() -> set[str]:
    """The top-level names of others that our modules import, in functions and for types alone included."""
    found: set[str] = set()
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"tiphys"}


def test_declared_dependencies_are_imported_and_imported_ones_declared() -> None:
    providers = packages_distributions()
    used = {name: {_normal(each) for each in providers.get(name, ())} for name in _imported()}
    missing = {name for name, distributions in used.items() if not distributions & _declared()}
    # The pytest plugin is imported by pytest alone; botocore comes with boto3, for those who want S3.
    assert missing <= {"pytest", "boto3", "botocore"}
    idle = {name for name in _declared() if not any(name in distributions for distributions in used.values())}
    assert idle == set()
