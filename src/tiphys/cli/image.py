"""`tiphys image`: the components' own image, and container images on the cluster's nodes without a registry."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from tiphys import __version__
from tiphys.cli.console import Console, fail, table
from tiphys.cli.options import existing_cluster, parser
from tiphys.cluster import images, lifecycle, nodes
from tiphys.cluster.ocilayout import ImageError
from tiphys.cluster.settings import Settings


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys image build``, ``import`` or ``list``; returns the exit status."""
    arguments = _options().parse_args(argv)
    try:
        if arguments.verb == "build":
            return _build(arguments)
        if arguments.address is not None:
            sockets, record = [Path(arguments.address)], None
        else:
            cluster = _running_cluster(arguments.data_dir)
            sockets, record = running_sockets(cluster), cluster.imported_images
        if arguments.verb == "import":
            return _import(sockets, arguments.file, record)
        return _list(sockets[0])
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
    importing = verbs.add_parser(
        "import", help="import images from a tar archive (docker save, OCI layout), on every node"
    )
    importing.add_argument(
        "file", type=Path, nargs="*", help="without any: the image of the components, assembled if it is not there yet"
    )
    listing = verbs.add_parser("list", help="list the images of the first node")
    for verb in (importing, listing):
        verb.add_argument("--address", type=Path, metavar="SOCKET", help="containerd's socket (default: the cluster's)")
    return options


def _build(arguments: argparse.Namespace) -> int:
    from tiphys.cluster.imagebuild.assemble import Recipe, assemble
    from tiphys.cluster.images import COMPONENT_IMAGE

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


def _running_cluster(data_dir: Path) -> Settings:
    settings = existing_cluster(data_dir)
    if not lifecycle.supervisor_pid(settings):
        fail("the cluster is not running; start it with `tiphys up`, or name a containerd with --address")
    return settings


def running_sockets(cluster: Settings) -> list[Path]:
    """The sockets of the containerds of all nodes of this machine that run, the first node's first."""
    further = [node for node in nodes.further_nodes(cluster).values() if lifecycle.supervisor_pid(node)]
    return [node.containerd_socket for node in (cluster, *further)]


def _import(sockets: Sequence[Path], files: Sequence[Path], record: Path | None) -> int:
    """Import on each node; ``record`` keeps the names for nodes that come later."""
    console = Console()
    for file in files or [_component_image(console)]:
        if not file.is_file():
            fail(f"{file} is not a file")
        with console.step(f"Importing {file}{_onto(sockets)}"):
            names = [asyncio.run(images.import_image(socket, file)) for socket in sockets]
        if record is not None:
            images.remember(record, names[0])
        for name in names[0]:
            print(name)
    return 0


def _onto(sockets: Sequence[Path]) -> str:
    return f" on {len(sockets)} nodes" if len(sockets) > 1 else ""


def _without(sockets: Sequence[Path], name: str) -> list[Path]:
    """Where an image is not there yet."""
    return [each for each in sockets if name not in {one.name for one in asyncio.run(images.list_images(each))}]


def ensure_components(cluster: Settings, console: Console) -> None:
    """Import the components' image on the nodes that do not have it."""
    from tiphys.cluster.images import COMPONENT_IMAGE

    if lacking := _without(running_sockets(cluster), COMPONENT_IMAGE):
        file = _component_image(console)
        with console.step(f"Importing {COMPONENT_IMAGE}{_onto(lacking)}"):
            for socket in lacking:
                asyncio.run(images.import_image(socket, file))
    images.remember(cluster.imported_images, [COMPONENT_IMAGE])


def ensure_monitoring(cluster: Settings, console: Console) -> None:
    """Assemble the image of Prometheus on the nodes that do not have it."""
    from tiphys.addons.objects import MONITORING_IMAGE
    from tiphys.cluster.imagebuild.monitoring import monitoring_image

    if lacking := _without(running_sockets(cluster), MONITORING_IMAGE):
        with console.step(f"Assembling {MONITORING_IMAGE}{_onto(lacking)}"):
            for socket in lacking:
                asyncio.run(images.import_built(socket, monitoring_image(MONITORING_IMAGE)))
    images.remember(cluster.imported_images, [MONITORING_IMAGE])


def bring(cluster: Settings, wanted: Sequence[Settings], console: Console) -> None:
    """What was imported on all nodes, on nodes that have just been started, before they can have pods."""
    if not wanted or not (names := images.remembered(cluster.imported_images)):
        return
    for node in wanted:
        with console.step(f"Bringing imported images to node {node.node_name}"):
            try:
                asyncio.run(images.bring(cluster.containerd_socket, node.containerd_socket, names, cluster.data_dir))
            except ImageError as error:
                problem: ImageError | None = error
            else:
                problem = None
        if problem is not None:
            console.say(f"  ! node {node.node_name} lacks imported images: {problem}")


def _component_image(console: Console) -> Path:
    from tiphys.cluster.imagebuild.assemble import Recipe, cached_image
    from tiphys.cluster.images import COMPONENT_IMAGE

    with console.step(f"Assembling {COMPONENT_IMAGE}"):
        return cached_image(Recipe(_components()))


def _list(socket: Path) -> int:
    stored = asyncio.run(images.list_images(socket))
    print(table(("IMAGE", "DIGEST", "SIZE"), [(i.name, i.digest.removeprefix("sha256:")[:12], i.size) for i in stored]))
    return 0
