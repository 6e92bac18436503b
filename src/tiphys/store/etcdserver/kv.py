"""The KV service.

Source: https://etcd.io/docs/v3.6/learning/api/#key-value-api
"""

from __future__ import annotations

from typing import Any

from tiphys.store.backend import DeleteResult, OperationResult, PutResult, RangeResult, TxnResult
from tiphys.store.etcdpb import (
    encode_range_response,
    pb,
    read_delete,
    read_put,
    read_range,
    read_txn,
    write_kv,
    write_kvs,
)
from tiphys.store.etcdserver.member import Member


class KV:
    def __init__(self, member: Member) -> None:
        self._member = member
        self._store = member.store

    async def Range(self, request: Any) -> bytes:
        result = await self._store.range(read_range(request))
        header = self._member.header(result.revision)
        return encode_range_response(header, result.kvs, count=result.count, more=result.more)

    async def Put(self, request: Any) -> Any:
        return self._put(await self._store.put(read_put(request)))

    async def DeleteRange(self, request: Any) -> Any:
        return self._delete(await self._store.delete(read_delete(request)))

    async def Txn(self, request: Any) -> Any:
        return self._txn(await self._store.txn(read_txn(request)))

    async def Compact(self, request: Any) -> Any:
        revision = await self._store.compact(request.revision, physical=request.physical)
        return pb.CompactionResponse(header=self._member.header(revision))

    def _range(self, result: RangeResult) -> Any:
        return pb.RangeResponse(
            header=pb.ResponseHeader(revision=result.revision),
            kvs=write_kvs(result.kvs),
            count=result.count,
            more=result.more,
        )

    def _put(self, result: PutResult, *, nested: bool = False) -> Any:
        previous = None if result.prev_kv is None else write_kv(result.prev_kv)
        return pb.PutResponse(header=self._header(result.revision, nested=nested), prev_kv=previous)

    def _delete(self, result: DeleteResult, *, nested: bool = False) -> Any:
        return pb.DeleteRangeResponse(
            header=self._header(result.revision, nested=nested),
            deleted=result.deleted,
            prev_kvs=write_kvs(result.prev_kvs),
        )

    def _txn(self, result: TxnResult, *, nested: bool = False) -> Any:
        return pb.TxnResponse(
            header=pb.ResponseHeader() if nested else self._member.header(result.revision),
            succeeded=result.succeeded,
            responses=[self._response(response) for response in result.responses],
        )

    def _response(self, result: OperationResult) -> Any:
        if isinstance(result, PutResult):
            return pb.ResponseOp(response_put=self._put(result, nested=True))
        if isinstance(result, RangeResult):
            return pb.ResponseOp(response_range=self._range(result))
        if isinstance(result, DeleteResult):
            return pb.ResponseOp(response_delete_range=self._delete(result, nested=True))
        return pb.ResponseOp(response_txn=self._txn(result, nested=True))

    def _header(self, revision: int, *, nested: bool) -> Any:
        """Inside a transaction's answer, headers carry the revision only."""
        return pb.ResponseHeader(revision=revision) if nested else self._member.header(revision)
