"""Joining two byte streams: endings, half-closes, cancellation, and writers that are held back."""

from __future__ import annotations

import asyncio

import pytest

from tiphys.runtime.clock import VirtualTimeLoop
from tiphys.wire.memory import stream_pair
from tiphys.wire.relay import relay


def test_bytes_go_both_ways_and_the_end_of_one_is_the_end_of_both() -> None:
    async def main() -> None:
        client, left = stream_pair()
        right, server = stream_pair()
        joined = asyncio.create_task(relay(left, right))
        client.write(b"question")
        assert await server.read() == b"question"
        server.write(b"answer" * 100_000)
        server.close()
        received = b""
        while data := await client.read():
            received += data
        assert received == b"answer" * 100_000  # what was sent before the end is delivered
        await joined
        with pytest.raises(ConnectionError):
            await client.drain()

    asyncio.run(main())


def test_half_close() -> None:
    async def main() -> None:
        client, left = stream_pair()
        right, server = stream_pair()
        joined = asyncio.create_task(relay(left, right, half_close=True))
        client.write(b"all I have")
        client.write_eof()
        assert [await server.read(), await server.read()] == [b"all I have", b""]
        server.write(b"answer")
        server.write_eof()
        assert [await client.read(), await client.read()] == [b"answer", b""]
        await joined

    asyncio.run(main())


def test_cancelling_closes_both() -> None:
    async def main() -> None:
        client, left = stream_pair()
        right, server = stream_pair()
        joined = asyncio.create_task(relay(left, right))
        await asyncio.sleep(0)
        joined.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joined
        assert (await client.read(), await server.read()) == (b"", b"")

    asyncio.run(main())


def test_a_slow_reader_holds_the_writer_back() -> None:
    async def main() -> None:
        client, left = stream_pair()
        right, server = stream_pair()
        joined = asyncio.create_task(relay(left, right))
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(200):
                client.write(bytes(32768))
                sent += 32768
                await client.drain()
            client.close()

        sending = asyncio.create_task(send())
        for _ in range(2000):
            await asyncio.sleep(0)
        assert sent < 2_000_000
        received = 0
        while data := await server.read():
            received += len(data)
        assert received == 200 * 32768
        await asyncio.gather(sending, joined)

    asyncio.run(main())


def test_what_is_under_way_arrives_although_the_other_direction_has_ended() -> None:
    async def main() -> None:
        client, left = stream_pair()
        right, server = stream_pair()
        joined = asyncio.create_task(relay(left, right))
        client.write_eof()
        assert await server.read() == b""
        received = b""

        async def receive() -> None:
            nonlocal received
            while data := await client.read():
                received += data

        receiving = asyncio.create_task(receive())
        for number in range(20):
            server.write(bytes((number,)) * 50_000)
            await server.drain()
            await asyncio.sleep(4)  # slow, but never silent for long
        server.write_eof()
        await receiving
        assert received == b"".join(bytes((number,)) * 50_000 for number in range(20))
        await joined

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


def test_a_session_whose_client_has_left_ends_soon_though_the_other_side_never_does() -> None:
    async def main() -> None:
        client, left = stream_pair()
        right, server = stream_pair()
        joined = asyncio.create_task(relay(left, right))
        client.write_eof()
        started = asyncio.get_running_loop().time()
        await joined
        assert asyncio.get_running_loop().time() - started < 10
        assert await server.read() == b""
        with pytest.raises(ConnectionError):
            await server.drain()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
