"""`tiphys image`: container images on this node, without a registry."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tiphys.cli.console import Console, fail, table
from tiphys.cli.options import existing_cluster, parser
from tiphys.cluster import images, lifecycle
from tiphys.cluster.settings import Settings


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys image import`` or ``list``; returns the exit status."""
    options = parser("image", "Import or list container images.")
    verbs = options.add_subparsers(dest="verb", required=True)
    importing = verbs.add_parser("import", help="import images from a tar archive (docker save, OCI layout)")
    importing.add_argument("file", type=Path, nargs="+")
    verbs.add_parser("list", help="list the images of this node")
    arguments = options.parse_args(argv)
    settings = existing_cluster(arguments.data_dir)
    if not lifecycle.supervisor_pid(settings):
        fail("the cluster is not running; start it with `tiphys up`")
    try:
        if arguments.verb == "import":
            return _import(settings, arguments.file)
        return _list(settings)
    except images.ImageError as error:
        fail(error)


def _import(settings: Settings, files: Sequence[Path]) -> int:
    console = Console()
    for file in files:
        if not file.is_file():
            fail(f"{file} is not a file")
        with console.step(f"Importing {file}"):
            names = asyncio.run(images.import_image(settings.containerd_socket, file))
        for name in names:
            print(name)
    return 0


def _list(settings: Settings) -> int:
    stored = asyncio.run(images.list_images(settings.containerd_socket))
    print(table(("IMAGE", "DIGEST", "SIZE"), [(i.name, i.digest.removeprefix("sha256:")[:12], i.size) for i in stored]))
    return 0
