"""SPDY: frames as the specification has them, and two connections that talk to each other."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable

import pytest

from tiphys.wire.memory import MemoryStream, stream_pair
from tiphys.wire.spdy.connection import SpdyConnection, SpdyStream
from tiphys.wire.spdy.frames import (
    DICTIONARY,
    FrameKind,
    Reader,
    ResetStatus,
    SpdyError,
    Writer,
    data_frame,
    goaway_frame,
    ping_frame,
    reset_frame,
    window_update_frame,
)


def test_dictionary_is_the_specification_s() -> None:
    assert len(DICTIONARY) == 1423
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2  # the id that every SPDY/3 header block begins with


def test_frames_survive_any_cut() -> None:
    writer = Writer()
    stream = b"".join(
        (
            writer.syn_stream(1, {"streamType": "error"}),
            writer.syn_stream(3, {"streamType": "stdin", "port": "80"}),
            writer.syn_reply(1, {}),
            data_frame(3, b"hello", fin=True),
            reset_frame(3, ResetStatus.CANCEL),
            ping_frame(7),
            window_update_frame(1, 1000),
            goaway_frame(3),
        )
    )
    whole = list(Reader().feed(stream))
    reader = Reader()
    assert [frame for at in range(len(stream)) for frame in reader.feed(stream[at : at + 1])] == whole
    kinds = [frame.kind for frame in whole]
    assert kinds == [1, 1, 2, 0, 3, 6, 9, 7]
    assert whole[1].headers == {"streamtype": "stdin", "port": "80"}
    assert (whole[3].data, whole[3].flags) == (b"hello", 1)
    assert whole[4].value == ResetStatus.CANCEL


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02\x00\x01\x00\x00\x00\x0a" + bytes(10),  # version 2
        b"\x80\x03\x00\x01\x00\x00\x00\x0e\x00\x00\x00\x01" + b"\xff" * 10,  # no header block
        b"\x80\x03\x00\x01\x00\xff\xff\xff",  # 16 MiB of headers
        b"\x00\x00\x00\x00\x00\x00\x00\x01x",  # stream 0
        b"\x80\x03\x00\x03\x00\x00\x00\x04\x00\x00\x00\x01",  # a reset without status
    ],
)
def test_broken_frames_are_refused(data: bytes) -> None:
    with pytest.raises(SpdyError):
        list(Reader().feed(data))


def test_a_header_block_cannot_explode() -> None:
    compressor = zlib.compressobj(zdict=DICTIONARY)
    block = compressor.compress(bytes(64 << 20)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    body = b"\x00\x00\x00\x01" + block
    with pytest.raises(SpdyError, match="too large"):
        list(Reader().feed(b"\x80\x03\x00\x02" + len(body).to_bytes(4, "big") + body))


Use = Callable[[SpdyConnection, SpdyConnection, "asyncio.Queue[SpdyStream]"], Awaitable[None]]


def converse(use: Use) -> None:
    async def main() -> None:
        near, far = stream_pair()
        opened: asyncio.Queue[SpdyStream] = asyncio.Queue()
        client = SpdyConnection(near, server=False)
        server = SpdyConnection(far, server=True, accept=opened.put_nowait)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(client.run())
            group.create_task(server.run())
            await use(client, server, opened)
            client.close()
            server.close()

    asyncio.run(main())


def test_streams_carry_data_both_ways_and_half_close() -> None:
    async def use(client: SpdyConnection, server: SpdyConnection, opened: asyncio.Queue[SpdyStream]) -> None:
        near = await client.open({"streamType": "stdin"})
        far = await opened.get()
        assert far.headers == {"streamtype": "stdin"}
        near.write(b"question")
        near.close()
        assert await far.read() == b"question"
        assert await far.read() == b""
        far.write(b"answer")
        far.close()
        assert await near.read() == b"answer"
        assert await near.read() == b""
        assert not near.was_reset
        await client.ping()

    converse(use)


def test_megabytes_pass_and_a_slow_reader_bounds_the_writer() -> None:
    async def use(client: SpdyConnection, server: SpdyConnection, opened: asyncio.Queue[SpdyStream]) -> None:
        near = await client.open({"a": "b"})
        far = await opened.get()
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(256):
                near.write(bytes(32768))
                sent += 32768
                await near.drain()
            near.close()

        sending = asyncio.create_task(send())
        for _ in range(1000):
            await asyncio.sleep(0)
        assert sent < 2 << 20  # nobody has read yet
        received = 0
        while data := await far.read():
            received += len(data)
        await sending
        assert received == 256 * 32768

    converse(use)


def test_reset_reaches_the_other_side() -> None:
    async def use(client: SpdyConnection, server: SpdyConnection, opened: asyncio.Queue[SpdyStream]) -> None:
        near = await client.open({"a": "b"})
        far = await opened.get()
        far.write(b"last")
        far.reset()
        assert await near.read() == b"last"
        assert await near.read() == b""
        assert near.was_reset
        with pytest.raises(ConnectionError):
            await near.drain()

    converse(use)


def test_the_end_of_the_connection_ends_its_streams() -> None:
    async def use(client: SpdyConnection, server: SpdyConnection, opened: asyncio.Queue[SpdyStream]) -> None:
        near = await client.open({"a": "b"})
        server.close()
        assert await near.read() == b""
        with pytest.raises(ConnectionError):
            await client.open({"c": "d"})

    converse(use)


def test_a_refused_stream_is_an_error() -> None:
    async def main() -> None:
        near, far = stream_pair()
        client, server = SpdyConnection(near, server=False), SpdyConnection(far, server=True)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(client.run())
            group.create_task(server.run())
            with pytest.raises(ConnectionResetError):
                await client.open({"a": "b"})
            client.close()

    asyncio.run(main())


def test_a_peer_with_windows_is_not_overrun() -> None:
    """Once the other side has sent a WINDOW_UPDATE, what it has not granted is not sent."""

    async def main() -> None:
        near, far = stream_pair()
        client = SpdyConnection(near, server=False)
        reader, writer = Reader(), Writer()

        async def frames(far: MemoryStream) -> list[FrameKind]:
            return [frame.kind for frame in reader.feed(await far.read())]

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(client.run())
            opening = group.create_task(client.open({"a": "b"}))
            assert await frames(far) == [FrameKind.SYN_STREAM]
            far.write(writer.syn_reply(1, {}) + window_update_frame(1, 10))
            stream = await opening
            await asyncio.sleep(0)
            stream.write(bytes(65536 + 10))
            draining = group.create_task(stream.drain())
            for _ in range(10):
                await asyncio.sleep(0)
            assert not draining.done()
            far.write(window_update_frame(1, 100))
            await draining
            client.close()

    asyncio.run(main())
