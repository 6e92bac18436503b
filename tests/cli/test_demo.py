"""The demo's witness: it follows pods, and what ends it is no failure of the demo."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from tiphys.cli import demo
from tiphys.client.rest import Client
from tiphys.wire.http import Request, Response
from tiphys.wire.inprocess import InProcessTransport

EMPTY = b'{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"5"},"items":[]}'


async def lists_only(request: Request) -> Response:
    if "watch" in request.query:
        return Response(410, {"Content-Type": "application/json"}, b'{"kind":"Status","code":410,"reason":"Expired"}')
    return Response(200, {"Content-Type": "application/json"}, EMPTY)


@pytest.mark.parametrize("refused", [False, True], ids=["the demo works", "the demo fails"])
def test_a_watch_that_ends_leaves_nothing_behind(refused: bool) -> None:
    unseen: list[dict[str, Any]] = []

    async def scene() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        async with demo._witness(Client(InProcessTransport(lists_only))) as witness:
            await asyncio.sleep(0.05)
            if refused:
                raise SystemExit("0 of 3 pods are ready")
        assert witness.complete() == []

    if refused:
        with pytest.raises(SystemExit):
            asyncio.run(scene())
    else:
        asyncio.run(scene())
    gc.collect()
    assert unseen == []
