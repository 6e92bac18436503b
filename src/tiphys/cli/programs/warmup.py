"""What every component does first, done once before they are forked: list, watch and get, over TLS.

A process that has just been forked shares all memory with its parent until one of them writes. Most of what a component
writes in its first moments is the same in each: what OpenSSL looks up and keeps at the first handshake, and what the
interpreter writes into functions that it runs for the first times. What the parent has done before the fork is shared:
4 MiB and 9 ms of processor time a component, for 20 ms of the parent's. docs/speed.md has the measurement.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from pathlib import Path

import uvloop

from tiphys.client.errors import ApiError
from tiphys.client.informer import Informer
from tiphys.client.kubeconfig import client_from_file
from tiphys.client.options import ClientOptions
from tiphys.client.resources import PODS
from tiphys.cluster.settings import Settings
from tiphys.runtime.clock import SystemClock
from tiphys.wire.http import Request, Response
from tiphys.wire.server import serve
from tiphys.wire.tls.contexts import server_context

log = logging.getLogger(__name__)

_TIMES = 3
_SECONDS = 2.0
"""After which it is given up: a start must not wait for what only makes it cheaper."""
_JSON = {"Content-Type": "application/json"}
_META = b'"metadata":{"name":"pod","namespace":"default","uid":"1","resourceVersion":"1"}'
_POD = b'{"kind":"Pod","apiVersion":"v1",%s,"spec":{},"status":{}}' % _META
_LIST = b'{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[{%s}]}' % _META
_EVENT = b'{"type":"MODIFIED","object":%s}\n' % _POD


def warm_up(cluster: Settings) -> None:
    """Talk to ourselves on loopback, with the certificates and the administrator's kubeconfig of ``cluster``.

    To be called in a process of one thread, and leaves it so. What fails is logged; nothing else depends on it.
    """
    wakeup = signal.set_wakeup_fd(-1)
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(_converse(cluster.pki, cluster.kubeconfig("admin")), _SECONDS))
    except (OSError, ApiError, ValueError) as error:
        log.warning("the components start without a warm-up: %s", str(error) or type(error).__name__)
    finally:
        loop.close()
        signal.set_wakeup_fd(wakeup)


async def _converse(pki: Path, kubeconfig: Path) -> None:
    tls = server_context(pki / "apiserver.crt", pki / "apiserver.key", (pki / "ca.crt",))
    server = await serve(_answer, "127.0.0.1", 0, tls=tls)
    options = ClientOptions(server=f"https://127.0.0.1:{server.port}")
    client = client_from_file(kubeconfig, "tiphys", options=options)
    try:
        for _ in range(_TIMES):
            informer = Informer(client, PODS, SystemClock())
            following = asyncio.ensure_future(informer.run())
            await informer.wait_synced()
            await client.get(PODS, "pod", "default")
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
    finally:
        await client.close()
        await server.close()


async def _answer(request: Request) -> Response:
    if "watch=true" in request.query:
        return Response(200, _JSON, _EVENT)
    return Response(200, _JSON, _POD if request.path.endswith("/pod") else _LIST)
