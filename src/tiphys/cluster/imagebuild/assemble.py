"""The pipeline: from what is installed here to the image of the components in a file."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiphys import __version__
from tiphys.cluster.imagebuild import programs, python
from tiphys.cluster.imagebuild.base import Base, check_library, read_base
from tiphys.cluster.imagebuild.bytecode import Job, compile_all
from tiphys.cluster.imagebuild.libraries import shared_libraries
from tiphys.cluster.ocilayout import (
    DEFAULT_PATH,
    File,
    ImageSource,
    Layer,
    compressed_layer,
    configuration,
    write_layout,
)

COMPONENT_IMAGE = f"tiphys.local/tiphys:{__version__}"
CACHE = Path("/var/cache/tiphys")
ENVIRONMENT = {"PATH": DEFAULT_PATH, "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the image is made of. ``components`` are the names that become commands, after ``etcd`` has been placed."""

    components: Sequence[str]
    name: str = COMPONENT_IMAGE
    base: Path | None = None
    etcd: bool = True


@dataclass(frozen=True, slots=True)
class Contents:
    """The entries of both layers, before compilation."""

    machine: list[File] = field(default_factory=list)
    ours: list[File] = field(default_factory=list)


def assemble(recipe: Recipe, target: Path) -> str:
    """Write the image to ``target``, whole or not at all; returns its digest."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        scratch = Path(folder)
        contents = gather(recipe)
        base = _base(recipe, contents, scratch)
        machine, ours = _compiled((contents.machine, contents.ours), scratch)
        layers = [
            *(base.layers if base is not None else ()),
            compressed_layer(_ordered(machine, bare=base is None), scratch / "machine.tar.gz"),
            compressed_layer(_ordered(ours, bare=False), scratch / "tiphys.tar.gz"),
        ]
        made = scratch / target.name
        with made.open("wb") as file:
            digest = write_layout(file, recipe.name, _configuration(recipe, base, layers), layers)
        made.replace(target)
    return digest


def gather(recipe: Recipe) -> Contents:
    """What goes into the image, from this machine. Raises ``ImageError`` with the package that is missing."""
    needed = [*programs.programs(etcd=recipe.etcd), *programs.packet_filter_modules()]
    modules = [*python.interpreter(), *python.distributions()]
    objects = [file.source for file in (*needed, *modules) if file.source is not None and _is_object(file)]
    libraries = shared_libraries(objects, packaged=[python.packages_folder()])
    there = {Path(file.path).name for file in needed}
    return Contents(
        machine=[*needed, *modules, *libraries, *programs.system_files(), *python.environment()],
        ours=[*python.ourselves(), *programs.commands(recipe.components, there)],
    )


def fingerprint(recipe: Recipe) -> str:
    """What would change the image: the names, sizes and times of all that goes into it. Far cheaper than the image."""
    parts = hashlib.sha256(repr((recipe, COMPONENT_IMAGE)).encode())
    contents = gather(recipe)
    for file in (*contents.machine, *contents.ours):
        state = file.source.stat() if file.source is not None else None
        parts.update(repr((file.path, file.data, file.link, state and (state.st_size, state.st_mtime_ns))).encode())
    if recipe.base is not None:
        parts.update(hashlib.sha256(recipe.base.read_bytes()).digest())
    return parts.hexdigest()[:16]


def cached_image(recipe: Recipe, folder: Path = CACHE) -> Path:
    """The image's file in ``folder``, assembled unless it is there already; those of other contents are removed."""
    wanted = folder / f"tiphys-{fingerprint(recipe)}.tar"
    if not wanted.exists():
        assemble(recipe, wanted)
        for other in folder.glob("tiphys-*.tar"):
            if other != wanted:
                other.unlink(missing_ok=True)
    return wanted


def _is_object(file: File) -> bool:
    return ".so" in Path(file.path).name or (file.mode & 0o111 != 0 and "bin/" in file.path)


def _base(recipe: Recipe, contents: Contents, scratch: Path) -> Base | None:
    if recipe.base is None:
        return None
    folder = scratch / "base"
    folder.mkdir()
    base = read_base(recipe.base, folder)
    check_library(base, contents.machine)
    return base


def _compiled(layers: tuple[list[File], list[File]], scratch: Path) -> tuple[list[File], list[File]]:
    """The same entries, with the byte code of all modules."""
    folder = scratch / "bytecode"
    folder.mkdir()
    tag = f"cpython-{python.VERSION.removeprefix('python').replace('.', '')}"
    jobs: list[Job] = []
    made: list[list[tuple[str, Path]]] = [[], []]
    for files, compiled in zip(layers, made, strict=True):
        for file in sorted(files, key=lambda file: file.path):
            if file.path.endswith(".py") and file.source is not None:
                place = Path(file.path)
                output = folder / f"{len(jobs)}.pyc"
                jobs.append((str(file.source), f"/{file.path}", str(output)))
                compiled.append((f"{place.parent}/__pycache__/{place.stem}.{tag}.pyc", output))
    compile_all(jobs)
    machine, ours = (
        [*files, *(File(path, source=output, mode=0o644) for path, output in compiled if output.exists())]
        for files, compiled in zip(layers, made, strict=True)
    )
    return machine, ours


def _ordered(files: Iterable[File], *, bare: bool) -> list[File]:
    """Sorted entries, each path once. On a bare root the folders come first; a base has its own."""
    once = {file.path: file for file in files}
    ordered = [once[path] for path in sorted(once)]
    return [*programs.merged_folders(), *ordered] if bare else ordered


def _configuration(recipe: Recipe, base: Base | None, layers: Sequence[Layer]) -> dict[str, Any]:
    ours = configuration(ImageSource(recipe.name, (), command=["tiphys"], environment=ENVIRONMENT), layers)
    if base is None:
        return ours
    inherited = _variables(base.config.get("config", {}).get("Env") or ()) | ENVIRONMENT
    ours["config"]["Env"] = [f"{key}={value}" for key, value in inherited.items()]
    ours["history"] = [*base.config.get("history", ()), *({"created_by": "tiphys"} for _ in range(2))]
    return ours


def _variables(lines: Sequence[str]) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in lines)
