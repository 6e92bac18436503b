"""An image that ours is built upon, read from an OCI image layout in a tar file (image-layout.md)."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.cluster.ocilayout import File, ImageError, Layer, blob_of, digest, machine_architecture

_LAYERS = {
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
_INDEXES = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
_OCI = {"application/vnd.docker.image.rootfs.diff.tar.gzip": "application/vnd.oci.image.layer.v1.tar+gzip"}


@dataclass(frozen=True, slots=True)
class Base:
    config: dict[str, Any]
    layers: Sequence[Layer]


def read_base(archive: Path, folder: Path) -> Base:
    """Unpack the image's blobs to ``folder`` and check them. Raises ``ImageError`` for what is no such image."""
    try:
        with tarfile.open(archive) as layout:
            layout.extractall(folder, filter="data")
        index = json.loads((folder / "index.json").read_bytes())
    except (tarfile.TarError, OSError, ValueError) as error:
        raise ImageError(f"--base: {archive} is no OCI image layout in a tar file ({error})") from error
    manifest = _manifest(folder, index, archive)
    config = json.loads(_blob(folder, manifest["config"]["digest"]))
    identities = config["rootfs"]["diff_ids"]
    layers = [_layer(folder, at, diff_id) for at, diff_id in zip(manifest["layers"], identities, strict=True)]
    return Base(config, layers)


def paths_in(base: Base) -> set[str]:
    """Whatever a layer of it has, without slashes around."""
    paths: set[str] = set()
    for layer in base.layers:
        assert layer.blob.source is not None
        with tarfile.open(layer.blob.source) as entries:
            paths |= {member.name.removeprefix("./").strip("/") for member in entries}
    return paths


def check_library(base: Base, ours: Sequence[File]) -> None:
    """Refuse a base with another C library than this machine's: ours would take its place under the base's programs."""
    libc = next(file for file in ours if file.path.endswith("/libc.so.6"))
    assert libc.source is not None
    wanted = digest(libc.source.read_bytes())
    for layer in base.layers:
        for name, data in _files_called("libc.so.6", layer):
            if digest(data) != wanted:
                raise ImageError(
                    f"--base: its C library ({name}) is not this machine's; "
                    "build on a machine with the base's distribution and version"
                )


def _files_called(name: str, layer: Layer) -> Iterator[tuple[str, bytes]]:
    assert layer.blob.source is not None
    with tarfile.open(layer.blob.source) as entries:
        for member in entries:
            if Path(member.name).name == name and member.isfile() and (file := entries.extractfile(member)):
                yield member.name, file.read()


def _manifest(folder: Path, index: dict[str, Any], archive: Path) -> dict[str, Any]:
    for entry in index.get("manifests", ()):
        platform = entry.get("platform") or {}
        if platform.get("architecture", machine_architecture()) != machine_architecture():
            continue
        document: dict[str, Any] = json.loads(_blob(folder, entry["digest"]))
        if entry.get("mediaType") in _INDEXES:
            return _manifest(folder, document, archive)
        return document
    raise ImageError(f"--base: {archive} has no image for {machine_architecture()}")


def _layer(folder: Path, descriptor: dict[str, Any], diff_id: str) -> Layer:
    media_type = descriptor["mediaType"]
    if media_type not in _LAYERS:
        raise ImageError(f"--base: layers of type {media_type} are not supported; save the image with gzip layers")
    name = descriptor["digest"]
    _blob(folder, name)
    source = _path(folder, name)
    return Layer(_OCI.get(media_type, media_type), name, descriptor["size"], diff_id, blob_of(name, source))


def _blob(folder: Path, name: str) -> bytes:
    try:
        data = _path(folder, name).read_bytes()
    except OSError as error:
        raise ImageError(f"--base: the blob {name} is missing") from error
    if "sha256:" + hashlib.sha256(data).hexdigest() != name:
        raise ImageError(f"--base: the blob {name} is damaged")
    return data


def _path(folder: Path, name: str) -> Path:
    algorithm, _, value = name.partition(":")
    if algorithm != "sha256" or not value.isalnum():
        raise ImageError(f"--base: a blob's digest is {name!r}; only sha256 is supported")
    return folder / "blobs" / "sha256" / value
