"""The pipeline: from what is installed here to the image of the components in a file."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tiphys.cluster.imagebuild import programs, python
from tiphys.cluster.imagebuild.base import Base, check_library, paths_in, read_base
from tiphys.cluster.imagebuild.bytecode import Job, compile_all
from tiphys.cluster.imagebuild.libraries import shared_libraries
from tiphys.cluster.images import COMPONENT_IMAGE
from tiphys.cluster.ocilayout import (
    DEFAULT_PATH,
    File,
    ImageSource,
    Layer,
    blob_of,
    compressed_layer,
    configuration,
    write_layout,
)

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


def assemble(recipe: Recipe, target: Path, cache: Path | None = None) -> str:
    """Write the image to ``target``, whole or not at all; returns its digest. Layers are kept in ``cache``, if given,
    and taken from there while their parts are the same."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        scratch = Path(folder)
        contents = gather(recipe)
        base = _base(recipe, contents, scratch)
        layers = [
            *(base.layers if base is not None else ()),
            _layer("machine", _ordered(contents.machine, _missing_folders(base)), scratch, cache or scratch),
            _layer("tiphys", _ordered(contents.ours), scratch, cache or scratch),
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


def cached_image(recipe: Recipe) -> Path:
    """The image's file in the cache, assembled unless it is there already; one of other contents is removed.

    The cache is /var/cache/tiphys, or where systemd puts it for a unit with CacheDirectory= (systemd.exec(5)).
    """
    folder = Path(os.environ.get("CACHE_DIRECTORY") or "/var/cache/tiphys")
    contents = gather(recipe)
    base = recipe.base.read_bytes() if recipe.base is not None else b""
    parts = (recipe, fingerprint(contents.machine), fingerprint(contents.ours), hashlib.sha256(base).hexdigest())
    wanted = folder / f"image-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}.tar"
    if not wanted.exists():
        assemble(recipe, wanted, folder)
        _remove_others(wanted, folder.glob("image-*.tar"))
    return wanted


def fingerprint(files: Iterable[File]) -> str:
    """What would change a layer: the names, sizes and times of all that goes into it. Far cheaper than the layer."""
    parts = hashlib.sha256(python.VERSION.encode())
    for file in files:
        state = file.source.stat() if file.source is not None else None
        parts.update(repr((file.path, file.data, file.link, state and (state.st_size, state.st_mtime_ns))).encode())
    return parts.hexdigest()[:16]


def _layer(name: str, files: list[File], scratch: Path, cache: Path) -> Layer:
    """The layer of these entries and of their byte code; in ``cache`` its name is what it was made of."""
    place = cache / f"{name}-{fingerprint(files)}.tar.gz"
    about = place.with_suffix(".json")
    if place.exists() and about.exists():
        kept = json.loads(about.read_text())
        return Layer(blob=blob_of(kept["digest"], place), **kept)
    made = compressed_layer(sorted(_compiled(name, files, scratch), key=_order), scratch / f"{name}.tar.gz")
    assert made.blob.source is not None
    made.blob.source.replace(place)
    kept = {"media_type": made.media_type, "digest": made.digest, "size": made.size, "diff_id": made.diff_id}
    about.write_text(json.dumps(kept))
    _remove_others(place, cache.glob(f"{name}-*.tar.gz"))
    return replace(made, blob=blob_of(made.digest, place))


def _remove_others(wanted: Path, there: Iterable[Path]) -> None:
    for other in there:
        if other != wanted:
            other.unlink(missing_ok=True)
            other.with_suffix(".json").unlink(missing_ok=True)


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


def _compiled(name: str, files: list[File], scratch: Path) -> list[File]:
    """The same entries, with the byte code of all modules."""
    folder = scratch / f"{name}-bytecode"
    folder.mkdir()
    tag = f"cpython-{python.VERSION.removeprefix('python').replace('.', '')}"
    jobs: list[Job] = []
    compiled: list[File] = []
    for file in files:
        if file.path.endswith(".py") and file.source is not None:
            place, output = Path(file.path), folder / f"{len(jobs)}.pyc"
            jobs.append((str(file.source), f"/{file.path}", str(output)))
            compiled.append(File(f"{place.parent}/__pycache__/{place.stem}.{tag}.pyc", source=output, mode=0o644))
    compile_all(jobs)
    return [*files, *(file for file in compiled if file.source is not None and file.source.exists())]


def _ordered(files: Iterable[File], folders: Iterable[File] = ()) -> list[File]:
    """The folders, and after them the entries, sorted and each path once."""
    once = {file.path: file for file in files}
    return [*folders, *sorted(once.values(), key=_order)]


def _missing_folders(base: Base | None) -> list[File]:
    """The folders and links of a root that the base does not have: programs look for their loader in ``/lib64``."""
    there = paths_in(base) if base is not None else set()
    return [file for file in programs.merged_folders() if file.path.strip("/") not in there]


def _order(file: File) -> tuple[bool, str]:
    """Folders and the links of the root are there before what is put into them."""
    return "/" in file.path.rstrip("/") and not file.path.endswith("/"), file.path


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
