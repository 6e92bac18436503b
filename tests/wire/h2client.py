"""An HTTP/2 client for tests, on the ``h2`` package: streams of one connection, with what the server sent for each."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
from hyperframe.frame import GoAwayFrame


@dataclass
class Answer:
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers[":status"])


class Http2Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.protocol = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.answers: dict[int, Answer] = {}
        self.goaway = False
        self.reading = True
        """Whether windows are given back for what is received."""
        # h2 itself hears nothing more after a GOAWAY, though streams that are open go on.
        self.protocol._frame_dispatch_table[GoAwayFrame] = lambda frame: ([], [h2.events.ConnectionTerminated()])
        self.protocol.initiate_connection()
        self.flush()

    @classmethod
    async def connect(cls, port: int, context: ssl.SSLContext) -> Http2Client:
        context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        return cls(reader, writer)

    def flush(self) -> None:
        self._writer.write(self.protocol.data_to_send())

    def request(
        self, path: str, method: str = "GET", body: bytes | None = None, headers: tuple[tuple[str, str], ...] = ()
    ) -> int:
        number = self.protocol.get_next_available_stream_id()
        fields = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "localhost"), *headers]
        self.answers[number] = Answer()
        self.protocol.send_headers(number, fields, end_stream=body is None)
        if body is not None:
            self.protocol.send_data(number, body, end_stream=True)
        self.flush()
        return number

    async def until(self, condition: Callable[[], bool]) -> None:
        """Receive until ``condition`` holds. Raises ConnectionError where the server closes before."""
        while not condition():
            data = await self._reader.read(65536)
            if not data:
                raise ConnectionError("closed by the server")
            for event in self.protocol.receive_data(data):
                self._take(event)
            self.flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = True
            return
        answer = self.answers.get(getattr(event, "stream_id", 0) or 0)
        if answer is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            answer.headers.update(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data
            if self.reading:
                self.protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code)

    async def answer(self, number: int) -> Answer:
        """Wait for the end of a stream."""
        found = self.answers[number]
        await self.until(lambda: found.ended or found.reset is not None)
        return found

    async def get(self, path: str) -> Answer:
        return await self.answer(self.request(path))

    def close(self) -> None:
        self._writer.close()
