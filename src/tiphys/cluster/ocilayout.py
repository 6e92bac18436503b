"""Encoding OCI images: entries to a layer, layers and a configuration to an image layout in one tar file.

Everything is written with fixed times and owners and in the order given, so that the same entries always give the same
bytes, and so the same digests. A leaf.

Source: the OCI image specification 1.0 (image-layout.md, manifest.md, config.md, layer.md).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}
_COMPRESSION = 4


class ImageError(Exception):
    """An image cannot be assembled or imported; the message says what is missing and how to mend it."""


@dataclass(frozen=True, slots=True)
class File:
    """One entry of a layer: a file with its bytes or with the file that has them, a symbolic link, or (with none of
    these) a directory."""

    path: str
    data: bytes | None = None
    link: str = ""
    mode: int = 0o755
    source: Path | None = None


@dataclass(frozen=True, slots=True)
class ImageSource:
    """What an image of one layer consists of, before it is encoded."""

    name: str
    files: Sequence[File]
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": DEFAULT_PATH})
    user: str = ""
    working_directory: str = "/"
    exposed_ports: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Layer:
    """An encoded layer; ``blob`` has its bytes. ``diff_id`` is the digest before compression."""

    media_type: str
    digest: str
    size: int
    diff_id: str
    blob: File


def machine_architecture() -> str:
    """The machine's architecture under the name that OCI images use (Go's GOARCH)."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def build(source: ImageSource) -> bytes:
    """A small image as the bytes of a tar file with an OCI image layout; its layer is not compressed."""
    buffer = io.BytesIO()
    _write_entries(buffer, source.files)
    layer_bytes = buffer.getvalue()
    name = digest(layer_bytes)
    layer = Layer(LAYER, name, len(layer_bytes), name, _blob(name, layer_bytes))
    layout = io.BytesIO()
    write_layout(layout, source.name, configuration(source, [layer]), [layer])
    return layout.getvalue()


def configuration(source: ImageSource, layers: Sequence[Layer]) -> dict[str, Any]:
    """The image's configuration. It has no time of creation, which would differ with every build."""
    return {
        "architecture": machine_architecture(),
        "os": "linux",
        "config": {
            "Env": [f"{key}={value}" for key, value in source.environment.items()],
            "WorkingDir": source.working_directory,
            **({"Entrypoint": list(source.entrypoint)} if source.entrypoint else {}),
            **({"Cmd": list(source.command)} if source.command else {}),
            **({"User": source.user} if source.user else {}),
            **({"ExposedPorts": {port: {} for port in source.exposed_ports}} if source.exposed_ports else {}),
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created_by": "tiphys"} for _ in layers],
    }


def compressed_layer(files: Iterable[File], target: Path) -> Layer:
    """Encode entries as a gzip layer in the file ``target``."""
    with target.open("wb") as file:
        outer = _Hashed(file)
        with gzip.GzipFile("", "wb", _COMPRESSION, cast(BinaryIO, outer), mtime=0) as packed:
            inner = _Hashed(packed)
            _write_entries(cast(BinaryIO, inner), files)
    name = outer.digest()
    return Layer(LAYER + "+gzip", name, outer.size, inner.digest(), _blob(name, source=target))


def write_layout(target: BinaryIO, name: str, config: Mapping[str, Any], layers: Sequence[Layer]) -> str:
    """Write the image layout of one image, called ``name``, as a tar file; returns the digest of its manifest."""
    config_bytes = encode(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(CONFIG, config_bytes),
        "layers": [{"mediaType": at.media_type, "digest": at.digest, "size": at.size} for at in layers],
    }
    manifest_bytes = encode(manifest)
    entry = _descriptor(MANIFEST, manifest_bytes)
    entry["annotations"] = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    documents = [_blob(digest(data), data) for data in (config_bytes, manifest_bytes)]
    blobs = {blob.path: blob for blob in (*(layer.blob for layer in layers), *documents)}
    _write_entries(
        target,
        [
            File("oci-layout", encode({"imageLayoutVersion": "1.0.0"}), mode=0o644),
            File("index.json", encode(index), mode=0o644),
            File("blobs/"),
            File("blobs/sha256/"),
            *blobs.values(),
        ],
    )
    return digest(manifest_bytes)


def _write_entries(target: BinaryIO, files: Iterable[File]) -> None:
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for file in files:
            _add(archive, file)


def _add(archive: tarfile.TarFile, file: File) -> None:
    info = tarfile.TarInfo(file.path.rstrip("/"))
    info.mode = file.mode
    if file.link:
        info.type, info.linkname = tarfile.SYMTYPE, file.link
        archive.addfile(info)
    elif file.source is not None:
        with file.source.open("rb") as content:
            info.size = file.source.stat().st_size
            archive.addfile(info, content)
    elif file.data is not None:
        info.size = len(file.data)
        archive.addfile(info, io.BytesIO(file.data))
    else:
        info.type = tarfile.DIRTYPE
        archive.addfile(info)


def blob_of(name: str, source: Path) -> File:
    """The entry of a blob whose digest is ``name``, with its bytes in a file."""
    return _blob(name, source=source)


def _blob(name: str, data: bytes | None = None, source: Path | None = None) -> File:
    return File(f"blobs/sha256/{name.removeprefix('sha256:')}", data, source=source, mode=0o644)


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


class _Hashed:
    """A file that is written to, with the digest and the number of the bytes so far."""

    def __init__(self, target: BinaryIO | gzip.GzipFile) -> None:
        self._target = target
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._target.write(data)

    def flush(self) -> None:
        self._target.flush()

    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()
