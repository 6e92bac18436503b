"""Build hook: packs the published OpenAPI definitions of Kubernetes v1.36 into one small file of the package.

The source is the PyPI package ``kubernetes-validate`` (a build requirement only). The result,
``src/tiphys/api/data/definitions.json.gz``, maps each definition's name to its schema, as published:
descriptions, list types, merge keys, formats and group-version-kinds included.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
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
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("building Tiphys needs the package kubernetes-validate==1.36.0")
    folder = Path(spec.submodule_search_locations[0]) / "kubernetes-json-schema" / f"{LEVEL}-local"
    definitions = json.loads((folder / "_definitions.json").read_text())["$defs"]
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(definitions, separators=(",", ":"), sort_keys=True).encode()
    target.write_bytes(gzip.compress(text, mtime=0))


if __name__ == "__main__":
    pack(Path(__file__).parent.parent / TARGET)
