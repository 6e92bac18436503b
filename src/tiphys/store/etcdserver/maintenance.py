"""The Maintenance service: status, alarms, hashes, snapshots, defragmentation.

Source: https://etcd.io/docs/v3.6/learning/api/
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from tiphys.store import snapshot
from tiphys.store.backend import Compacted, FutureRevision
from tiphys.store.contents import Contents, hash_all, hash_kv
from tiphys.store.etcdpb import pb
from tiphys.store.etcdserver import VERSION
from tiphys.store.etcdserver.errors import Code, Refused
from tiphys.store.etcdserver.member import RAFT_TERM, Member

NO_ALARM, NO_SPACE, CORRUPT = 0, 1, 2
ACTIVATE, DEACTIVATE = 1, 2
SNAPSHOT_CHUNK = 64 * 1024
STORAGE_VERSION = "3.6.0"

T = TypeVar("T")


class Maintenance:
    def __init__(self, member: Member, quota: int) -> None:
        self._member = member
        self._store = member.store
        self._quota = quota

    async def Status(self, _: Any) -> Any:
        """The sizes in bytes, the revision, and the alarms of the one member."""
        size, in_use = self._store.sizes()
        revision = self._store.hub.revision
        return pb.StatusResponse(
            header=self._member.header(),
            version=VERSION,
            dbSize=size,
            dbSizeInUse=in_use,
            leader=self._member.member_id,
            raftIndex=revision,
            raftAppliedIndex=revision,
            raftTerm=RAFT_TERM,
            errors=[f"memberID:{self._member.member_id} alarm:NOSPACE "] if self._store.no_space() else [],
            storageVersion=STORAGE_VERSION,
            dbSizeQuota=self._quota,
            downgradeInfo=pb.DowngradeInfo(),
        )

    async def Alarm(self, request: Any) -> Any:
        before = self._alarms()
        if request.action == ACTIVATE:
            if request.alarm == CORRUPT:
                raise Refused("tiphys: the CORRUPT alarm cannot be raised by hand", Code.UNIMPLEMENTED)
            if request.alarm == NO_SPACE:
                await self._store.set_no_space(on=True)
            return pb.AlarmResponse(header=self._member.header(), alarms=self._alarms())
        if request.action == DEACTIVATE and request.alarm in (NO_ALARM, NO_SPACE):
            await self._store.set_no_space(on=False)
        elif request.alarm == CORRUPT:
            before = []
        return pb.AlarmResponse(header=self._member.header(), alarms=before)

    def _alarms(self) -> list[Any]:
        if not self._store.no_space():
            return []
        return [pb.AlarmMember(memberID=self._member.member_id, alarm=NO_SPACE)]

    async def Defragment(self, _: Any) -> Any:
        await self._store.defragment()
        return pb.DefragmentResponse()

    async def Hash(self, _: Any) -> Any:
        hashed, revision = await self._inspect(lambda contents: (hash_all(contents), contents.revision))
        return pb.HashResponse(header=self._member.header(revision), hash=hashed)

    async def HashKV(self, request: Any) -> Any:
        def work(contents: Contents) -> tuple[int, int, int, int]:
            revision = request.revision or contents.revision
            if revision < contents.compacted:
                raise Compacted(contents.compacted)
            if revision > contents.revision:
                raise FutureRevision
            return hash_kv(contents, revision), contents.compacted, revision, contents.revision

        hashed, compacted, of, revision = await self._inspect(work)
        return pb.HashKVResponse(
            header=self._member.header(revision), hash=hashed, compact_revision=compacted, hash_revision=of
        )

    async def Snapshot(self, _: Any) -> AsyncIterator[Any]:
        """The database in etcd's form, in pieces, and then its digest."""
        with tempfile.TemporaryDirectory(prefix="tiphys-snapshot-") as directory:
            path = Path(directory) / "db"
            await self._inspect(lambda contents: snapshot.write_database(contents, path))
            left = size = path.stat().st_size
            with path.open("rb") as file:
                while left:
                    blob = file.read(SNAPSHOT_CHUNK)
                    left -= len(blob)
                    yield pb.SnapshotResponse(remaining_bytes=left, blob=blob, version=STORAGE_VERSION)
                digest = await asyncio.to_thread(snapshot.digest_of, file, size)
            yield pb.SnapshotResponse(blob=digest, version=STORAGE_VERSION)

    async def MoveLeader(self, request: Any) -> Any:
        if request.targetID == self._member.member_id:
            return pb.MoveLeaderResponse(header=self._member.header())
        raise Refused("etcdserver: bad leader transferee")

    async def Downgrade(self, _: Any) -> Any:
        raise Refused("tiphys: the store's format is not etcd's, and cannot be downgraded", Code.UNIMPLEMENTED)

    async def _inspect(self, work: Callable[[Contents], T]) -> T:
        """Do something with a picture of the store, in a thread, as it may take long."""

        def run() -> T:
            with self._store.contents() as contents:
                return work(contents)

        return await asyncio.to_thread(run)
