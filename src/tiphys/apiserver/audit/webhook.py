"""The webhook backend: posts batches of events, as an EventList, to the server that a kubeconfig names.

Source: https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import orjson

from tiphys.api.object import Object
from tiphys.apiserver.audit.backend import Failed
from tiphys.apiserver.audit.version import API_VERSION
from tiphys.client.errors import ApiError
from tiphys.client.kubeconfig import client_from_file, server_path
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)


_TRIES = 5
_FACTOR = 1.5
_MOST_ANSWER = 1 << 20
AT_ONCE = 15
"""So many batches may be on their way."""


class WebhookBackend:
    """Tries a batch five times, whatever the answer, with growing pauses of ``backoff`` seconds at first; then it is
    lost and counted."""

    name = "webhook"

    def __init__(self, kubeconfig: Path, backoff: float, clock: Clock, failed: Failed) -> None:
        """Raises ``KubeconfigError``."""
        self._client = client_from_file(kubeconfig, "kube-apiserver-audit", timeout=30)
        self._path = server_path(kubeconfig)
        self._backoff = backoff
        self._clock = clock
        self._failed = failed

    async def process(self, events: Sequence[Object]) -> bool:
        """Post a batch; True if it arrived, False after the last try, with the loss counted."""
        body = orjson.dumps({"kind": "EventList", "apiVersion": API_VERSION, "metadata": {}, "items": list(events)})
        pause = self._backoff
        for attempt in range(_TRIES):
            try:
                response = await self._client.request(
                    "POST", self._path, body=body, headers={"content-type": "application/json"}
                )
                await response.read(_MOST_ANSWER)
                return True
            except (ApiError, ConnectionError, OSError, TimeoutError) as error:
                if attempt == _TRIES - 1:
                    log.error("%d audit events cannot be sent: %s", len(events), error)
                    break
            await self._clock.sleep(pause)
            pause *= _FACTOR
        self._failed(self.name, len(events))
        return False

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        await self._client.close()
