"""snapshot save, status, restore. What is restored is a data directory for ``tiphys etcd`` and ``tiphys up``.

Source: https://github.com/etcd-io/etcd/tree/main/etcdctl
"""

from __future__ import annotations

import os
from pathlib import Path

import grpc.aio

from tiphys.store import bbolt, snapshot
from tiphys.store.backend import StoreError
from tiphys.store.etcdchannel import Channels, translate
from tiphys.store.etcdctl.flags import Command, Flag, UsageError
from tiphys.store.etcdctl.session import Session
from tiphys.store.etcdpb import pb
from tiphys.store.restore import restore as restore_into


async def save(session: Session) -> None:
    """Save a snapshot, verified before it gets its name. Raises ``UsageError``, ``StoreError`` and ``OSError``."""
    (name,) = session.expect(1, 1, "snapshot save expects one argument")
    if len(session.endpoints) != 1:
        raise UsageError(
            "snapshot must be requested to one selected node, not multiple " + f"[{' '.join(session.endpoints)}]", 1
        )
    try:
        await download(session.channels, Path(name))
    except grpc.aio.AioRpcError as error:
        raise translate(error) from error
    session.output.say(f"Snapshot saved at {name}")


async def download(channels: Channels, path: Path) -> None:
    """Write a member's snapshot to ``path``, which it gets only if it is whole. Raises ``BadSnapshot``, ``OSError`` and
    ``AioRpcError``."""
    part = path.with_name(path.name + ".part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            async for response in channels.server_stream(
                channels.method("Maintenance", "Snapshot"), pb.SnapshotRequest()
            ):
                file.write(response.blob)
            file.flush()
            os.fsync(file.fileno())
        snapshot.verify(part)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


async def status(session: Session) -> None:
    (name,) = session.expect(1, 1, "snapshot status requires exactly one argument")
    try:
        session.output.snapshot_status(snapshot.status(Path(name)))
    except bbolt.BadFile as error:
        raise StoreError(str(error)) from error


async def restore(session: Session) -> None:
    """Fill a new data directory from a snapshot. Raises ``UsageError`` for flags that do not go together."""
    (name,) = session.expect(1, 1, "snapshot restore requires exactly one argument")
    members = [part.partition("=")[0] for part in session["initial-cluster"].split(",")]
    if len(members) > 1:
        raise UsageError(
            "the embedded store has one member: to restore a cluster of several, use etcd's own etcdctl or etcdutl", 1
        )
    bump, compacted = session["bump-revision"], session["mark-compacted"]
    if bump < 0:
        raise UsageError("--bump-revision must not be negative", 1)
    if (bump > 0) != compacted:
        raise UsageError("--mark-compacted is required if --bump-revision > 0, and not allowed otherwise", 1)
    directory = Path(session["data-dir"] or f"{session['name']}.etcd")
    count, revision = restore_into(Path(name), directory, skip_hash=session["skip-hash-check"], bump=bump)
    session.output.say(f"restored {count} changes up to revision {revision} into {directory}")


COMMANDS = (
    Command("snapshot save", "Stores an etcd node backend snapshot to a given file", save, (), "<filename>"),
    Command("snapshot status", "Gets backend snapshot status of a given file", status, (), "<filename>"),
    Command(
        "snapshot restore",
        "Restores a snapshot to a data directory of tiphys etcd",
        restore,
        (
            Flag("data-dir", "", "the directory to make"),
            Flag("name", "default", "the member's name"),
            Flag("initial-cluster", "default=http://localhost:2380", "the one member"),
            Flag(
                "skip-hash-check",
                default=False,
                help="take a file without the hash at its end, such as a copied database",
            ),
            Flag("bump-revision", 0, "by how much the revision is greater after the restore"),
            Flag(
                "mark-compacted",
                default=False,
                help="compact at the revision after the restore: required if --bump-revision > 0, disallowed otherwise",
            ),
        ),
        "<filename> [options]",
        refused=("wal-dir", "initial-cluster-token", "initial-advertise-peer-urls"),
    ),
)
