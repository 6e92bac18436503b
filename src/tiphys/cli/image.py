"""`tiphys image`: the components' own image, and container images on a node without a registry."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from tiphys import __version__
from tiphys.cli.console import Console, fail, table
from tiphys.cli.options import existing_cluster, parser
from tiphys.cluster import images, lifecycle
from tiphys.cluster.ocilayout import ImageError


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys image build``, ``import`` or ``list``; returns the exit status."""
    arguments = _options().parse_args(argv)
    try:
        if arguments.verb == "build":
            return _build(arguments)
        socket = _socket(arguments)
        if arguments.verb == "import":
            return _import(socket, arguments.file)
        return _list(socket)
    except ImageError as error:
        fail(error)


def _options() -> argparse.ArgumentParser:
    options = parser("image", "Build the image of the components; import or list container images.")
    verbs = options.add_subparsers(dest="verb", required=True)
    building = verbs.add_parser("build", help="assemble the components' image from what is installed here")
    building.add_argument(
        "-o", "--output", type=Path, default=Path(f"tiphys-{__version__}.tar"), metavar="FILE",
        help=f"the tar file to write, an OCI image layout (default tiphys-{__version__}.tar)",
    )  # fmt: skip
    building.add_argument("--name", help=f"the image's name (default tiphys.local/tiphys:{__version__})")
    building.add_argument(
        "--base", type=Path, metavar="FILE", help="build upon this image, an OCI layout in a tar file"
    )
    building.add_argument(
        "--without-etcd", action="store_true", help="leave etcd out; `etcd` is then Tiphys's own store"
    )
    importing = verbs.add_parser("import", help="import images from a tar archive (docker save, OCI layout)")
    importing.add_argument(
        "file", type=Path, nargs="*", help="without any: the image of the components, assembled if it is not there yet"
    )
    listing = verbs.add_parser("list", help="list the images of this node")
    for verb in (importing, listing):
        verb.add_argument("--address", type=Path, metavar="SOCKET", help="containerd's socket (default: the cluster's)")
    return options


def _build(arguments: argparse.Namespace) -> int:
    from tiphys.cluster.imagebuild.assemble import COMPONENT_IMAGE, Recipe, assemble

    name = arguments.name or COMPONENT_IMAGE
    recipe = Recipe(_components(), name, arguments.base, etcd=not arguments.without_etcd)
    with Console().step(f"Assembling {name}"):
        digest = assemble(recipe, arguments.output)
    size = arguments.output.stat().st_size / 1e6
    print(table(("IMAGE", "DIGEST", "FILE", "SIZE"), [(name, digest, arguments.output, f"{size:.0f} MB")]))
    return 0


def _components() -> tuple[str, ...]:
    from tiphys.cli.main import COMPONENTS

    return tuple(COMPONENTS)


def _socket(arguments: argparse.Namespace) -> Path:
    if arguments.address is not None:
        return Path(arguments.address)
    settings = existing_cluster(arguments.data_dir)
    if not lifecycle.supervisor_pid(settings):
        fail("the cluster is not running; start it with `tiphys up`, or name a containerd with --address")
    return settings.containerd_socket


def _import(socket: Path, files: Sequence[Path]) -> int:
    console = Console()
    for file in files or [_component_image(console)]:
        if not file.is_file():
            fail(f"{file} is not a file")
        with console.step(f"Importing {file}"):
            names = asyncio.run(images.import_image(socket, file))
        for name in names:
            print(name)
    return 0


def ensure_components(socket: Path, console: Console) -> None:
    """Import the components' image into a node that does not have it."""
    from tiphys.cluster.imagebuild.assemble import COMPONENT_IMAGE

    if COMPONENT_IMAGE not in {stored.name for stored in asyncio.run(images.list_images(socket))}:
        file = _component_image(console)
        with console.step(f"Importing {COMPONENT_IMAGE}"):
            asyncio.run(images.import_image(socket, file))


def ensure_monitoring(socket: Path, console: Console) -> None:
    """Assemble the image of Prometheus on a node that does not have it."""
    from tiphys.addons.objects import MONITORING_IMAGE
    from tiphys.cluster.imagebuild.monitoring import monitoring_image

    if MONITORING_IMAGE not in {stored.name for stored in asyncio.run(images.list_images(socket))}:
        with console.step(f"Assembling {MONITORING_IMAGE}"):
            asyncio.run(images.import_built(socket, monitoring_image(MONITORING_IMAGE)))


def _component_image(console: Console) -> Path:
    from tiphys.cluster.imagebuild.assemble import COMPONENT_IMAGE, Recipe, cached_image

    with console.step(f"Assembling {COMPONENT_IMAGE}"):
        return cached_image(Recipe(_components()))


def _list(socket: Path) -> int:
    stored = asyncio.run(images.list_images(socket))
    print(table(("IMAGE", "DIGEST", "SIZE"), [(i.name, i.digest.removeprefix("sha256:")[:12], i.size) for i in stored]))
    return 0
