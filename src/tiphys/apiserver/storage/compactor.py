"""The API server compacts its store: the history of the last interval stays, for slow watches and pages of lists.

Several servers on one store take turns over the key ``compact_rev_key``, as those of upstream do, so that servers
of both kinds may share a store: who changes the key first compacts, to the revision that the store had at the server's
last turn; the others learn from the key how far it went.
Source: the flag --etcd-compaction-interval, and apiserver's storage/etcd3/compact.go for the protocol.
"""

from __future__ import annotations

import logging

from tiphys.apiserver.storage.feed import Feed
from tiphys.runtime.clock import Clock
from tiphys.store.backend import Compacted, Compare, CompareTarget, Put, Range, RangeResult, StoreError, Txn

log = logging.getLogger(__name__)

KEY = b"compact_rev_key"


class Compactor:
    def __init__(self, feed: Feed, clock: Clock, interval: float) -> None:
        self._feed = feed
        self._clock = clock
        self._interval = interval
        self._turn = 0
        """The key's version when this server last looked; it counts the turns of all servers."""
        self._revision = 0
        """The store's revision then: what is older may be compacted at the next turn."""

    async def run(self) -> None:
        while True:
            await self._clock.sleep(self._interval)
            try:
                await self.compact()
            except StoreError as error:
                log.warning("the store could not be compacted: %s", error)

    async def compact(self) -> None:
        """Take a turn, or learn of another server's. Raises ``StoreError``."""
        store, target = self._feed.backend, self._revision
        answer = await store.txn(
            Txn(
                compare=[Compare(KEY, CompareTarget.VERSION, "=", self._turn)],
                success=[Put(KEY, str(target).encode())],
                failure=[Range(KEY)],
            )
        )
        self._revision = answer.revision
        if not answer.succeeded:
            self._learn(answer.responses[0])
            return
        self._turn += 1
        if not target:
            return
        try:
            await store.compact(target)
            log.info("compacted revision %d", target)
        except Compacted:
            log.debug("revision %d is compacted already", target)
        self._feed.forget(target)

    def _learn(self, answer: object) -> None:
        if not isinstance(answer, RangeResult) or not answer.kvs:
            self._turn = 0  # somebody deleted the key: begin again
            return
        self._turn = answer.kvs[0].version
        if answer.kvs[0].value.isdigit():
            self._feed.forget(int(answer.kvs[0].value))
