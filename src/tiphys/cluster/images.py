"""The two small images of a cluster without internet, and images put into a containerd.

A cluster needs the pause container, which holds a pod's namespaces, and something to run. Both are made here from
static programs that Debian packages (catatonit, busybox-static).
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tiphys import __version__
from tiphys.cluster.ocilayout import File, ImageError, ImageSource, build
from tiphys.cluster.settings import write_private
from tiphys.kubelet.runtime.ctr import CtrFailure, ctr

PAUSE_IMAGE = "tiphys.local/pause:1"
DEMO_IMAGE = "tiphys.local/demo:1"
COMPONENT_IMAGE = f"tiphys.local/tiphys:{__version__}"
"""The components themselves, for those that run in pods; ``imagebuild`` makes it."""

_START_SECONDS = 60.0
_POLL_SECONDS = 0.1


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


def remember(record: Path, names: Iterable[str]) -> None:
    """Add to the names of what was imported on all nodes, for those that come later."""
    known = remembered(record)
    if new := set(names) - known:
        write_private(record, json.dumps(sorted(known | new), indent=2).encode() + b"\n")


def remembered(record: Path) -> set[str]:
    try:
        return set(json.loads(record.read_text()))
    except FileNotFoundError:
        return set()


def lacking(names: Iterable[str], first: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """Which of the images a node lacks, or has in another version than the first node; both by name, with digests."""
    return sorted(name for name in names if name in first and there.get(name) != first[name])


async def bring(source: Path, target: Path, names: Iterable[str], folder: Path) -> list[str]:
    """Copy images from one containerd to another, those that the first has and the second has not; gives their names.

    Both are waited for, as they may just have been started. ``folder`` has room for the archive.
    """
    first, there = [{image.name: image.digest for image in await _listed(socket)} for socket in (source, target)]
    if not (wanted := lacking(names, first, there)):
        return []
    with tempfile.TemporaryDirectory(dir=folder, prefix="images-") as place:
        archive = Path(place) / "images.tar"
        await _ctr(source, "images", "export", str(archive), *wanted)
        await import_image(target, archive)
    return wanted


async def _listed(socket: Path) -> list[StoredImage]:
    """The images in a containerd that may just have been started."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            return await list_images(socket)
        except ImageError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(_POLL_SECONDS)


async def _ctr(socket: Path, *words: str, stdin: bytes | None = None) -> str:
    try:
        return await ctr(socket, *words, stdin=stdin)
    except CtrFailure as failure:
        raise ImageError(str(failure)) from failure
