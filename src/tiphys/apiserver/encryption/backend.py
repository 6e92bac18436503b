"""``SealedBackend``: a backend that seals values on their way into another one, and opens them on their way out.

What cannot be opened is passed on as it is; reading it is then that object's error, and nobody else's.

Source: https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from tiphys.api.scheme import Scheme
from tiphys.apiserver.encryption.config import EncryptionRules
from tiphys.apiserver.encryption.providers import Chain, SealError
from tiphys.store.backend import (
    Backend,
    Delete,
    DeleteResult,
    Event,
    KeyValue,
    Operation,
    OperationResult,
    Put,
    PutResult,
    Range,
    RangeResult,
    Txn,
    TxnResult,
    Watch,
    WatchBatch,
    WatchRequest,
)

log = logging.getLogger(__name__)

_SLICE = 200
_MOST_WAIT = 0.25


class SealedBackend:
    """``root`` is the prefix of the API server's keys. ``stale`` are keys that a rewrite would seal in another way."""

    def __init__(self, backend: Backend, rules: EncryptionRules, root: str) -> None:
        self._backend = backend
        self._rules = rules
        self._root = root.rstrip("/").encode() + b"/"
        self._resources: dict[bytes, tuple[str, str]] = {}
        self._chains: dict[bytes, Chain | None] = {}
        self._stale: dict[bytes, int] = {}
        self._late: set[asyncio.Task[Event]] = set()
        self.reread: Callable[[bytes], None] = lambda key: None
        """Called with the key of an event that has been passed on unopened, and can be read now."""

    def use(self, rules: EncryptionRules) -> None:
        """Seal and open by other rules from now on."""
        self._rules = rules
        self._chains.clear()

    def serve(self, scheme: Scheme) -> None:
        """Learn under which prefix a server keeps which resource."""
        for resource in scheme.resources():
            self._resources[resource.storage_prefix.encode()] = (resource.group, resource.plural)

    def is_stale(self, key: str, revision: int) -> bool:
        """Whether the value at this revision should be written again although nothing changes."""
        return self._stale.get(key.encode()) == revision

    def _chain(self, key: bytes) -> Chain | None:
        if not key.startswith(self._root):
            return None
        parts = key[len(self._root) :].split(b"/", 2)
        prefix = parts[0] if parts[0] in self._resources else b"/".join(parts[:2])
        if prefix not in self._chains:
            # Custom resources are kept under GROUP/PLURAL.
            own = parts[0].decode(), parts[1].decode() if len(parts) > 1 else ""
            self._chains[prefix] = self._rules.chain(*self._resources.get(prefix, own))
        return self._chains[prefix]

    # -- out of the store

    async def range(self, request: Range) -> RangeResult:
        result = await self._backend.range(request)
        return result if request.keys_only or request.count_only else await self._opened_range(result)

    async def _opened_range(self, result: RangeResult) -> RangeResult:
        return replace(result, kvs=await self._opened_all(result.kvs))

    async def _opened_all(self, kvs: Sequence[KeyValue]) -> Sequence[KeyValue]:
        opened = []
        for number, kv in enumerate(kvs):
            opened.append(await self._opened(kv))
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
        return opened

    async def _opened(self, kv: KeyValue) -> KeyValue:
        if not kv.value:  # it is deleted
            self._stale.pop(kv.key, None)
            return kv
        chain = self._chain(kv.key)
        if chain is None:
            return kv
        try:
            opened = await chain.open(kv.value, kv.key)
        except SealError as error:
            log.error("the value of %s cannot be decrypted: %s", kv.key.decode(errors="backslashreplace"), error)
            return kv
        except Exception:
            log.exception("the value of %s cannot be decrypted", kv.key.decode(errors="backslashreplace"))
            return kv
        if opened.stale:
            self._stale[kv.key] = kv.mod_revision
        else:
            self._stale.pop(kv.key, None)
        return kv._replace(value=opened.value)

    async def watch(self, request: WatchRequest) -> Watch:
        return _OpenedWatch(await self._backend.watch(request), self)

    async def followed(self, event: Event) -> Event:
        """An event of the watch that all kinds share: none of them waits for a service that is slow to open another's.

        What is late is passed on as it is, and the cache of its kind reads everything again once it is open.
        """
        if self._chain(event.kv.key) is None:
            return event
        opening = asyncio.ensure_future(self._opened_event(event))
        await asyncio.wait({opening}, timeout=0 if self._late else _MOST_WAIT)
        if opening.done():
            return opening.result()
        self._late.add(opening)
        opening.add_done_callback(lambda done: self._came_late(event, done))
        return event

    def _came_late(self, event: Event, opening: asyncio.Task[Event]) -> None:
        self._late.discard(opening)
        if not opening.cancelled() and opening.exception() is None and opening.result().kv.value != event.kv.value:
            self.reread(event.kv.key)

    def give_up(self) -> None:
        for opening in self._late:
            opening.cancel()

    async def _opened_event(self, event: Event) -> Event:
        previous = event.prev_kv
        return event._replace(
            kv=await self._opened(event.kv), prev_kv=None if previous is None else await self._opened(previous)
        )

    # -- into the store

    async def put(self, request: Put) -> PutResult:
        result = await self._backend.put(await self._sealed(request))
        previous = result.prev_kv
        return result if previous is None else replace(result, prev_kv=await self._opened(previous))

    async def delete(self, request: Delete) -> DeleteResult:
        result = await self._backend.delete(request)
        return replace(result, prev_kvs=await self._opened_all(result.prev_kvs))

    async def txn(self, request: Txn) -> TxnResult:
        """Raises ``SealError`` if a value cannot be sealed: nothing is written then."""
        return await self._opened_txn(await self._backend.txn(await self._sealed_txn(request)))

    async def _sealed_txn(self, request: Txn) -> Txn:
        success = [await self._sealed_operation(operation) for operation in request.success]
        failure = [await self._sealed_operation(operation) for operation in request.failure]
        return replace(request, success=success, failure=failure)

    async def _sealed_operation(self, operation: Operation) -> Operation:
        if isinstance(operation, Put):
            return await self._sealed(operation)
        return await self._sealed_txn(operation) if isinstance(operation, Txn) else operation

    async def _sealed(self, request: Put) -> Put:
        chain = self._chain(request.key)
        if chain is None or request.ignore_value:
            return request
        return replace(request, value=await chain.seal(request.value, request.key))

    async def _opened_txn(self, result: TxnResult) -> TxnResult:
        return replace(result, responses=[await self._opened_result(response) for response in result.responses])

    async def _opened_result(self, result: OperationResult) -> OperationResult:
        match result:
            case RangeResult():
                return await self._opened_range(result)
            case TxnResult():
                return await self._opened_txn(result)
            case PutResult(prev_kv=KeyValue() as previous):
                return replace(result, prev_kv=await self._opened(previous))
            case DeleteResult():
                return replace(result, prev_kvs=await self._opened_all(result.prev_kvs))
        return result

    def __getattr__(self, name: str) -> Any:
        """Leases, compaction and health are the other backend's own."""
        return getattr(self._backend, name)


class _OpenedWatch:
    def __init__(self, watch: Watch, backend: SealedBackend) -> None:
        self._watch = watch
        self._backend = backend

    async def __aiter__(self) -> AsyncIterator[WatchBatch]:
        async for batch in self._watch:
            yield replace(batch, events=[await self._backend.followed(event) for event in batch.events])

    async def request_progress(self) -> None:
        await self._watch.request_progress()

    async def close(self) -> None:
        self._backend.give_up()
        await self._watch.close()
