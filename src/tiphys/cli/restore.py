"""`tiphys restore`: a cluster out of a backup, on this or another machine."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tiphys.cli.backup import FILE_ENDS
from tiphys.cli.console import Console, fail
from tiphys.cli.options import parser
from tiphys.cluster import machine
from tiphys.cluster.backup import retention
from tiphys.cluster.backup.archive import About, BackupError
from tiphys.cluster.backup.places import place_of
from tiphys.cluster.backup.restoring import Destination, restore
from tiphys.cluster.backup.sources import UP
from tiphys.cluster.settings import DATA_DIR, RUN_DIR, SettingsError


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys restore``; returns the exit status."""
    arguments = _options().parse_args(argv)
    data_dir = arguments.data_dir.absolute()
    run_dir = arguments.run_dir or (RUN_DIR if data_dir == DATA_DIR else data_dir / "run")
    try:
        address = arguments.node_ip or machine.node_address()
        with tempfile.TemporaryDirectory(prefix="tiphys-restore-") as folder:
            file = _fetched(arguments, Path(folder))
            with Console(quiet=arguments.quiet).step(f"Restoring {arguments.source}"):
                about = restore(file, Destination(data_dir, run_dir.absolute(), address, arguments.root))
    except (BackupError, SettingsError) as error:
        fail(error)
    print(f"The cluster {about.cluster} is as it was at {about.created}, revision {about.revision}.")
    print(_next_step(about, arguments))
    return 0


def _options() -> argparse.ArgumentParser:
    options = parser("restore", "Make a cluster out of a backup, on this or another machine.")
    add = options.add_argument
    add("source", metavar="FILE|PLACE", help="a backup; of a folder or s3://BUCKET/PREFIX, the newest one in it")
    add("--cluster", help="whose backup, if a place has those of several")
    add("--run-dir", type=Path, metavar="DIR", help=f"where sockets go (default {RUN_DIR})")
    add("--root", type=Path, default=Path("/"), help="where a control-plane node's /etc/kubernetes goes (default /)")
    add("--node-ip", help="a control-plane node's address (default: that of the default route)")
    add("-q", "--quiet", action="store_true", help="say nothing but errors")
    return options


def _fetched(arguments: argparse.Namespace, folder: Path) -> Path:
    """The backup as a file: the one that is named, or the newest of the place."""
    source = str(arguments.source)
    if "://" not in source and Path(source).is_file():
        return Path(source)
    name = ""
    if source.endswith(FILE_ENDS):
        source, _, name = source.rpartition("/")
    place = place_of(source)
    name = name or _newest(place.names(), arguments.cluster, source)
    place.fetch(name, folder / name)
    return folder / name


def _newest(names: Sequence[str], cluster: str | None, source: str) -> str:
    known = retention.clusters(names)
    if cluster is None and len(known) > 1:
        raise BackupError(f"{source} has backups of {', '.join(sorted(known))}; choose one with --cluster")
    chosen = cluster or next(iter(known), "")
    backups = retention.of_cluster(names, chosen)
    if not backups:
        raise BackupError(f"{source} has no backup{f' of {cluster}' if cluster else ''}")
    return backups[-1]


def _next_step(about: About, arguments: argparse.Namespace) -> str:
    if about.kind == UP:
        folder = "" if arguments.data_dir == DATA_DIR else f" --data-dir {arguments.data_dir}"
        return f"Start it with `tiphys up{folder}`."
    words = "tiphys init --ignore-preflight-errors=DirAvailable--var-lib-etcd"
    return f"Start it with `{words}`, with the networks that it had."
