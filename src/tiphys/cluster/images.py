"""OCI images assembled from the packages of the machine, and images put into the private containerd.

A cluster without internet needs two images: the pause container, which holds a pod's namespaces, and something to run.
Both are made here from static programs that Debian packages (catatonit, busybox-static), as OCI image layouts in a tar
file, with fixed times and owners, so that the same program always gives the same digest.

Source: the OCI image specification 1.0 (image-layout.md, config.md, layer.md).
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PAUSE_IMAGE = "tiphys.local/pause:1"
DEMO_IMAGE = "tiphys.local/demo:1"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


class ImageError(Exception):
    """An image cannot be assembled or imported; the message says what is missing and how to mend it."""


@dataclass(frozen=True, slots=True)
class File:
    """One entry of a layer: a file with its bytes, a symbolic link, or (``data`` and ``link`` empty) a directory."""

    path: str
    data: bytes | None = None
    link: str = ""
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class ImageSource:
    """What an image consists of, before it is encoded."""

    name: str
    files: Sequence[File]
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    user: str = ""
    working_directory: str = "/"
    exposed_ports: Sequence[str] = ()


def machine_architecture() -> str:
    """The machine's architecture under the name that OCI images use (Go's GOARCH)."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def pause_image(name: str = PAUSE_IMAGE) -> ImageSource:
    """The pause image: waits for a signal and reaps children. catatonit if it is installed, else busybox."""
    if program := shutil.which("catatonit"):
        files = [File("pause", Path(program).read_bytes())]
        return ImageSource(name, files, entrypoint=["/pause", "-P"], user="65535:65535")
    files = [File("bin/", None), File("bin/busybox", _busybox().read_bytes()), File("bin/sh", link="busybox")]
    wait = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done"
    return ImageSource(name, files, entrypoint=["/bin/sh", "-c", wait])


def demo_image(name: str = DEMO_IMAGE) -> ImageSource:
    """busybox with a link for each of its programs: sh, httpd, wget, nslookup, nc and the rest."""
    busybox = _busybox()
    listed = subprocess.run([str(busybox), "--list"], capture_output=True, text=True, check=True)
    programs = [p for p in listed.stdout.split() if p != "busybox" and "/" not in p]
    files = [
        *(File(f"{d}/", None) for d in ("bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var")),
        File("tmp/", None, mode=0o1777),
        File("var/www/", None),
        File("bin/busybox", busybox.read_bytes()),
        *(File(f"bin/{program}", link="busybox") for program in programs),
        *(File(f"usr/bin/{program}", link="../../bin/busybox") for program in ("env", "id", "test")),
        File(
            "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n", mode=0o644
        ),
        File("etc/group", b"root:x:0:\nnogroup:x:65534:\n", mode=0o644),
        File("etc/nsswitch.conf", b"hosts: files dns\n", mode=0o644),
    ]
    return ImageSource(name, files, command=["sh"])


def _busybox() -> Path:
    for place in ("/usr/bin/busybox", "/bin/busybox"):
        if Path(place).exists():
            return Path(place)
    raise ImageError("no busybox found to assemble an image from; install the package busybox-static")


def build(source: ImageSource) -> bytes:
    """The image as the bytes of a tar file with an OCI image layout."""
    layer = _layer(source.files)
    config = {
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
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        "history": [{"created_by": "tiphys"}],
    }
    config_bytes = _json(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _descriptor("application/vnd.oci.image.config.v1+json", config_bytes),
        "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    }
    manifest_bytes = _json(manifest)
    entry = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest_bytes)
    entry["annotations"] = {
        "io.containerd.image.name": source.name,
        "org.opencontainers.image.ref.name": source.name.rpartition(":")[2],
    }
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    blobs = [File(f"blobs/sha256/{_digest(b)[7:]}", b, mode=0o644) for b in (layer, config_bytes, manifest_bytes)]
    layout = [
        File("oci-layout", _json({"imageLayoutVersion": "1.0.0"}), mode=0o644),
        File("index.json", _json(index), mode=0o644),
    ]
    return _layer([*layout, File("blobs/", None), File("blobs/sha256/", None), *blobs])


def _layer(files: Iterable[File]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for file in files:
            info = tarfile.TarInfo(file.path.rstrip("/"))
            info.mode = file.mode
            if file.link:
                info.type, info.linkname = tarfile.SYMTYPE, file.link
                archive.addfile(info)
            elif file.data is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(file.data)
                archive.addfile(info, io.BytesIO(file.data))
    return buffer.getvalue()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image in containerd's store."""

    name: str
    digest: str
    size: str


async def import_image(socket: Path, archive: Path) -> list[str]:
    """Put an image archive (OCI layout or ``docker save``) into the containerd behind ``socket``; gives the names."""
    output = await _ctr(socket, "images", "import", "--digests=false", str(archive))
    return [line.split()[1] for line in output.splitlines() if line.startswith("unpacking ")]


async def import_built(socket: Path, source: ImageSource) -> None:
    """Assemble an image and put it into the containerd behind ``socket``."""
    await _ctr(socket, "images", "import", "-", stdin=build(source))


async def ensure_images(socket: Path) -> None:
    """Assemble the pause image and the demo's if the containerd behind ``socket`` does not have them yet."""
    there = {image.name for image in await list_images(socket)}
    missing = [make() for name, make in {PAUSE_IMAGE: pause_image, DEMO_IMAGE: demo_image}.items() if name not in there]
    await asyncio.gather(*(import_built(socket, source) for source in missing))


async def list_images(socket: Path) -> list[StoredImage]:
    """The images in the containerd behind ``socket``, each name once."""
    output = await _ctr(socket, "images", "list")
    images = []
    for line in output.splitlines()[1:]:
        words = line.split()
        if len(words) >= 5:
            images.append(StoredImage(words[0], words[2], " ".join(words[3:5])))
    return images


async def _ctr(socket: Path, *words: str, stdin: bytes | None = None) -> str:
    command = ["ctr", "--address", str(socket), "--namespace", "k8s.io", *words]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(stdin)
    if process.returncode != 0:
        raise ImageError(f"ctr {' '.join(words[:2])} failed: {errors.decode(errors='replace').strip()}")
    return output.decode()
