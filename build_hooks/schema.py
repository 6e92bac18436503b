"""Build hook: packs the published OpenAPI definitions of Kubernetes v1.36 into one small file of the package.

The source is the PyPI package ``kubernetes-validate`` (a build requirement only). The result,
``src/tiphys/api/data/definitions.json.gz``, maps each definition's name to its schema, as published:
descriptions, list types, merge keys, formats and group-version-kinds included.
``--check`` compares it with the digest below and, if the package is installed, with the package.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import sys
import zlib
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # --check runs where nothing is built
    BuildHookInterface = object  # type: ignore[assignment,misc]

LEVEL = "v1.36.0"
TARGET = Path("src/tiphys/api/data/definitions.json.gz")
DIGEST = "a2d869af184c9eb02ac0e6373d41d984b6d7ee63cff6afb7752df59c31129751"
"""SHA-256 of the definitions of this level, as they are packed: keys sorted, no spaces."""


class SchemaHook(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        target = Path(self.root) / TARGET
        if not target.exists():
            pack(target)


def pack(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(packed())


def packed() -> bytes:
    """The file's bytes, the same for the same package. Raises RuntimeError without the package, or if it is another."""
    folder = published()
    if folder is None:
        raise RuntimeError("building Tiphys needs the package kubernetes-validate==1.36.0")
    definitions = json.loads((folder / "_definitions.json").read_text())["$defs"]
    text = json.dumps(definitions, separators=(",", ":"), sort_keys=True).encode()
    if hashlib.sha256(text).hexdigest() != DIGEST:
        raise RuntimeError(f"the definitions in {folder} are not those of {LEVEL} that DIGEST names")
    return gzip.compress(text, mtime=0)


def published() -> Path | None:
    """Where the package keeps the definitions of this level; None if it is not installed."""
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "kubernetes-json-schema" / f"{LEVEL}-local"


def problem(target: Path) -> str:
    """Why the file is not what the published definitions give; empty if it is."""
    try:
        text = gzip.decompress(target.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        return f"it cannot be read: {error}"
    if hashlib.sha256(text).hexdigest() != DIGEST:
        return f"its digest is not that of {LEVEL}"
    if published() is not None and text != gzip.decompress(packed()):
        return "the installed package kubernetes-validate gives another"
    return ""


if __name__ == "__main__":
    file = Path(__file__).parent.parent / TARGET
    if sys.argv[1:] == ["--check"]:
        if why := problem(file):
            sys.exit(f"{TARGET}: {why}; remove it and run build_hooks/schema.py")
    else:
        pack(file)
