"""`tiphys backup`: the whole cluster in one file, once, or by a schedule with the newest kept."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tiphys.cli.console import Console, fail
from tiphys.cli.options import parser
from tiphys.cluster import lifecycle, machine
from tiphys.cluster.backup import schedule
from tiphys.cluster.backup.archive import About, BackupError
from tiphys.cluster.backup.making import maker
from tiphys.cluster.backup.places import place_of
from tiphys.cluster.backup.sources import SavedCluster, of_kubeadm, of_up
from tiphys.cluster.settings import Settings, SettingsError
from tiphys.runtime import logs
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.flags import parse_duration

FILE_ENDS = (".tar.gz", ".tgz")


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys backup``; returns the exit status. With ``--every`` it runs until it is interrupted."""
    arguments = _options().parse_args(argv)
    console = Console(quiet=arguments.quiet)
    try:
        if arguments.every is not None:
            logs.configure(0)
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(_again_and_again(arguments))
            return 0
        about, where = asyncio.run(_once(arguments, console))
    except (BackupError, SettingsError) as error:
        fail(error)
    print(f"{where}: cluster {about.cluster}, revision {about.revision}, {len(about.files)} files")
    return 0


def _options() -> argparse.ArgumentParser:
    options = parser("backup", "Put the whole cluster into one file: store, certificates, configuration.")
    add = options.add_argument
    add(
        "to",
        metavar="FILE|PLACE",
        help="FILE.tar.gz; or a folder or s3://BUCKET/PREFIX, where it gets a name with its time",
    )
    add("--every", type=parse_duration, metavar="DURATION", help="stay, and make one as often as this")
    add("--keep", type=int, default=28, metavar="N", help="how many are kept in the place (default 28)")
    add("--root", type=Path, default=Path("/"), help="where a control-plane node's /etc/kubernetes is (default /)")
    add("-q", "--quiet", action="store_true", help="say nothing but errors")
    return options


async def _once(arguments: argparse.Namespace, console: Console) -> tuple[About, str]:
    abouts: list[About] = []
    make = maker(lambda: _source(arguments), lambda: _runs(arguments))

    async def remembered(target: Path, now: datetime) -> None:
        abouts.append(await make(target, now))

    if arguments.to.endswith(FILE_ENDS) and "://" not in arguments.to:
        file = Path(arguments.to)
        with console.step(f"Writing {file}"):
            await remembered(file, schedule.utc(SystemClock()))
        return abouts[0], str(file)
    place = place_of(arguments.to)
    cluster = _source(arguments).cluster
    with console.step(f"Putting a backup to {arguments.to}"):
        name = await schedule.once(remembered, place, cluster, arguments.keep, schedule.utc(SystemClock()))
    return abouts[0], f"{arguments.to.rstrip('/')}/{name}"


async def _again_and_again(arguments: argparse.Namespace) -> None:
    place = place_of(arguments.to)
    cluster = _source(arguments).cluster
    make = maker(lambda: _source(arguments), lambda: _runs(arguments))
    await schedule.keep_making(
        make,
        place,
        cluster,
        every=arguments.every,
        keep=arguments.keep,
        clock=SystemClock(),
    )


def _source(arguments: argparse.Namespace) -> SavedCluster:
    """The cluster of `tiphys up` in ``--data-dir``; without one, the control-plane node below ``--root``."""
    settings = Settings.load(arguments.data_dir.absolute())
    if settings is not None:
        return of_up(settings)
    if (arguments.root / "etc/kubernetes/pki").is_dir():
        return of_kubeadm(arguments.root, socket.gethostname().lower(), machine.node_address())
    raise BackupError(
        f"no cluster in {arguments.data_dir}, and no {arguments.root / 'etc/kubernetes/pki'}; "
        "name the cluster with --data-dir or --root"
    )


def _runs(arguments: argparse.Namespace) -> bool:
    settings = Settings.load(arguments.data_dir.absolute())
    return settings is not None and bool(lifecycle.supervisor_pid(settings))
