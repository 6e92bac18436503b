"""Build hook: packs the published OpenAPI definitions of Kubernetes v1.36 into one small file of the package.

The source is the PyPI package ``kubernetes-validate`` (a build requirement only). The result,
``src/tiphys/api/data/definitions.json.gz``, maps each definition's name to its schema, as published:
descriptions, list types, merge keys, formats and group-version-kinds included.
``--check`` compares it with the package.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LEVEL = "v1.36.0"
TARGET = Path("src/tiphys/api/data/definitions.json.gz")


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
    """The file's bytes, the same for the same package."""
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("building Tiphys needs the package kubernetes-validate==1.36.0")
    folder = Path(spec.submodule_search_locations[0]) / "kubernetes-json-schema" / f"{LEVEL}-local"
    definitions = json.loads((folder / "_definitions.json").read_text())["$defs"]
    text = json.dumps(definitions, separators=(",", ":"), sort_keys=True).encode()
    return gzip.compress(text, mtime=0)


def differs(target: Path) -> bool:
    """Whether the file holds other definitions than the package."""
    return gzip.decompress(target.read_bytes()) != gzip.decompress(packed())


if __name__ == "__main__":
    file = Path(__file__).parent.parent / TARGET
    if sys.argv[1:] == ["--check"]:
        sys.exit(
            f"{TARGET} is not what the published definitions give; remove it and run build_hooks/schema.py"
            if differs(file)
            else 0
        )
    pack(file)
