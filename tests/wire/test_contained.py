"""A connection that fails in a pass over all of them is cut; the others have their turn, in this pass and the next."""

from __future__ import annotations

import asyncio

import pytest

from tiphys.wire.http import Request, Response
from tiphys.wire.server import serve


class Connection:
    """As much of one as the server's passes use."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.flushed = self.swept = 0
        self.cut = False

    def flush(self) -> None:
        self._step()
        self.flushed += 1

    def sweep(self, now: float) -> None:
        self._step()
        self.swept += 1

    def _step(self) -> None:
        if self.fails:
            raise ValueError("a fault of one connection")

    def abort(self) -> None:
        self.cut = True


@pytest.mark.parametrize("enqueue", ["flush_soon", "flush_stream_soon"])
def test_a_connection_that_fails_in_a_pass_is_cut_alone(enqueue: str) -> None:
    async def main() -> None:
        async def handler(request: Request) -> Response:
            return Response(200)

        server = await serve(handler, "127.0.0.1", 0)
        connections = [Connection(), Connection(fails=True), Connection()]
        for round in (1, 2):
            for connection in connections:
                getattr(server, enqueue)(connection)
            async with asyncio.timeout(60):
                while connections[2].flushed < round:
                    await asyncio.sleep(0.001)
        server.connections |= set(connections)  # type: ignore[arg-type]
        server._sweep()
        server._sweep()
        server.connections.clear()
        assert [(c.flushed, c.swept, c.cut) for c in connections] == [(2, 2, False), (0, 0, True), (2, 2, False)]
        await server.close(0)

    asyncio.run(main())
