"""Pings are answered on the way, whatever the pieces are that bytes come in; all other bytes pass as they are."""

from __future__ import annotations

import asyncio
import random

import pytest

from tiphys.wire.memory import stream_pair
from tiphys.wire.spdy.frames import FrameKind, Reader, Writer, data_frame, ping_frame, window_update_frame
from tiphys.wire.spdy.pings import PingsAnswered


@pytest.mark.parametrize("seed", range(30))
def test_pings_are_answered_between_frames_and_not_passed_on(seed: int) -> None:
    chance = random.Random(seed)

    def pieces(data: bytes) -> list[bytes]:
        cuts = sorted(chance.sample(range(len(data)), chance.randrange(1, 40)))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    def frames(pings: list[int]) -> tuple[bytes, bytes]:
        """All, and all but the pings with odd numbers."""
        writer, every, others = Writer(), b"", b""
        for number in range(60):
            kinds = (
                lambda: data_frame(1, chance.randbytes(chance.randrange(300))),
                lambda: window_update_frame(1, 5),
                lambda: writer.syn_stream(1, {"a": "b"}),
                lambda: ping_frame(2),
            )
            frame = chance.choice(kinds)()
            every, others = every + frame, others + frame
            if chance.random() < 0.3:
                pings.append(2 * number + 1)
                every += ping_frame(2 * number + 1)
        return every, others

    async def main() -> None:
        pings: list[int] = []
        up, passed = frames(pings)
        _, down = frames([])
        near, far = stream_pair()
        stream = PingsAnswered(far)
        read, received = b"", b""
        upward, downward = pieces(up), pieces(down)
        while upward or downward:
            if upward and (not downward or chance.random() < 0.5):
                near.write(upward.pop(0))
                while far._incoming.buffer:
                    reading = asyncio.create_task(stream.read())
                    await asyncio.sleep(0)
                    if not reading.done():
                        reading.cancel()  # only a ping, or less than the beginning of a frame
                    else:
                        read += reading.result()
            elif downward:
                stream.write(downward.pop(0))
        stream.close()
        while data := await near.read():
            received += data
        assert read == passed
        answered = list(Reader().feed(received))
        assert [frame.value for frame in answered if frame.kind is FrameKind.PING and frame.value & 1] == pings
        others = received
        for number in pings:
            others = others.replace(ping_frame(number), b"", 1)
        assert others == down

    asyncio.run(main())


def test_a_client_that_pings_and_reads_nothing_is_read_no_further() -> None:
    async def main() -> None:
        near, far = stream_pair()
        stream = PingsAnswered(far)
        reading = asyncio.create_task(stream.read())
        for number in range(200_000):
            near.write(ping_frame(2 * number + 1))
            if number % 1000 == 0:
                await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not reading.done()
        assert len(near._incoming.buffer) < 1_000_000, "answers that wait"
        reading.cancel()

    asyncio.run(main())
