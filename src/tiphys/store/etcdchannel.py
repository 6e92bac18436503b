"""Calls to the members of an etcd cluster: endpoints, TLS, fail-over, and errors as ``StoreError``s.

One member is used at a time; if it cannot be reached the next one takes its place. A call that certainly was not
sent is tried again there, and so is a read; a write that may have arrived is not, its caller has to find out.

Source: https://etcd.io/docs/v3.6/learning/design-client/
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio

from tiphys.store.backend import (
    Compacted,
    FutureRevision,
    InvalidRequest,
    LeaseExists,
    LeaseNotFound,
    NoSpace,
    StoreError,
    Unavailable,
)
from tiphys.store.etcdpb import SCHEMA
from tiphys.wire.protobuf import Method
from tiphys.wire.tls.following import stamps_of

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)
_NOT_SENT = ("failed to connect", "Failed to connect", "DNS resolution failed", "no address", "Connection refused")
WITH_LEADER = (("hasleader", "true"),)
"""Metadata that has a member end a stream when it loses sight of its leader."""

_BY_MESSAGE: dict[str, type[StoreError]] = {
    str(FutureRevision()): FutureRevision,
    str(LeaseNotFound()): LeaseNotFound,
    str(LeaseExists()): LeaseExists,
    str(NoSpace()): NoSpace,
}
_PASSING = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED"}


@dataclass(frozen=True, slots=True)
class ClientTLS:
    """PEM files: the servers' authority (None: the machine's), and the certificate and key to show."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.ca, self.cert, self.key) if path is not None]

    def credentials(self) -> grpc.ChannelCredentials:
        def read(path: Path | None) -> bytes | None:
            return path.read_bytes() if path is not None else None

        return grpc.ssl_channel_credentials(read(self.ca), read(self.key), read(self.cert))


class Unanswered(Unavailable):
    """No answer came. ``sent`` says whether the request may have arrived."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


def target_of(endpoint: str) -> tuple[str, bool]:
    """gRPC's target for ``host:port``, ``http://…``, ``https://…`` or ``unix://…``, and whether it wants TLS."""
    if "://" not in endpoint:
        return endpoint, False
    parts = urlsplit(endpoint)
    if parts.scheme in ("unix", "unixs"):
        return f"unix:{parts.netloc}{parts.path}", parts.scheme == "unixs"
    if parts.scheme not in ("http", "https"):
        raise InvalidRequest(f"etcd endpoint {endpoint!r}: the scheme must be http, https or unix")
    return parts.netloc, parts.scheme == "https"


def translate(error: grpc.aio.AioRpcError) -> StoreError:
    """A gRPC status as the store error that it stands for."""
    message = error.details() or error.code().name
    if message == str(Compacted(0)):
        return Compacted(0)
    if message in _BY_MESSAGE:
        return _BY_MESSAGE[message]()
    name = error.code().name
    if name in _PASSING:
        return Unanswered(message, sent=not any(sign in message for sign in _NOT_SENT))
    if name in ("INVALID_ARGUMENT", "OUT_OF_RANGE"):
        return InvalidRequest(message)
    return StoreError(message)


class Channels:
    """The members of a cluster, of which one is in use."""

    def __init__(self, endpoints: Sequence[str], tls: ClientTLS | None, timeout: float) -> None:
        if not endpoints:
            raise InvalidRequest("no etcd endpoint is given")
        self.endpoints = list(endpoints)
        self.timeout = timeout
        """Seconds that a call may take."""
        self._tls = tls
        self._channels: dict[int, grpc.aio.Channel] = {}
        self._calls: dict[tuple[int, str], Any] = {}
        self._shown: dict[int, list[tuple[int, int]]] = {}
        """What the certificate's files were like when a channel was made: gRPC reads them once."""
        self._retired: list[grpc.aio.Channel] = []
        """Channels with a certificate that has been renewed: streams on them last for as long as their connection."""
        self._at = 0
        self._methods = {method.path: method for name in SCHEMA.services() for method in SCHEMA.methods(name).values()}

    def channel(self, at: int) -> grpc.aio.Channel:
        channel = self._channels.get(at)
        if channel is None:
            target, secure = target_of(self.endpoints[at])
            if secure or (self._tls is not None and "://" not in self.endpoints[at]):
                tls = self._tls or ClientTLS()
                self._shown[at] = stamps_of(tls.files)
                credentials = tls.credentials()
                channel = grpc.aio.secure_channel(target, credentials, options=_OPTIONS)
            else:
                channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
            self._channels[at] = channel
        return channel

    def _call(self, at: int, method: Method) -> Any:
        call = self._calls.get((at, method.path))
        if call is None:
            call = self._calls[at, method.path] = self.channel(at).unary_unary(
                method.path, method.request.SerializeToString, method.response.FromString
            )
        return call

    def method(self, service: str, name: str) -> Method:
        return self._methods[f"/etcdserverpb.{service}/{name}"]

    async def unary(self, method: Method, request: Any, *, repeatable: bool, timeout: float | None = None) -> Any:
        """Call, at one member after another if that is safe. Raises ``StoreError``."""
        failure: StoreError = Unavailable("no etcd member answers")
        for _ in range(2 * len(self.endpoints)):
            at = self._at
            try:
                return await self._call(at, method)(request, timeout=timeout or self.timeout)
            except grpc.aio.AioRpcError as error:
                failure = translate(error)
                if not isinstance(failure, Unanswered):
                    raise failure from error
                self.leave(at)
                if failure.sent and not repeatable:
                    raise failure from error
                await asyncio.sleep(0.05)
        raise failure

    def stream(self, method: Method) -> tuple[int, Any]:
        """A stream in both directions with the member in use; also which one that is, for ``leave``."""
        at = self._at
        open_stream = self.channel(at).stream_stream(
            method.path, method.request.SerializeToString, method.response.FromString
        )
        return at, open_stream(metadata=WITH_LEADER)

    def server_stream(self, method: Method, request: Any, at: int | None = None) -> Any:
        """A stream of answers, such as a snapshot."""
        open_stream = self.channel(self._at if at is None else at).unary_stream(
            method.path, method.request.SerializeToString, method.response.FromString
        )
        return open_stream(request)

    async def at_each(self, method: Method, request: Any) -> list[Any]:
        """One member's answers after another's; an exception if a member gave none."""

        async def ask(at: int) -> Any:
            try:
                return await self._call(at, method)(request, timeout=self.timeout)
            except grpc.aio.AioRpcError as error:
                return translate(error)

        return list(await asyncio.gather(*(ask(at) for at in range(len(self.endpoints)))))

    def leave(self, at: int) -> None:
        """A member failed: use the next one, if nobody else has seen to that already.

        If the certificate was renewed since, the member is asked with the new one the next time: a connection is
        checked when it is made, so the old one may be what failed.
        """
        if at == self._at:
            self._at = (at + 1) % len(self.endpoints)
        if at in self._shown and self._tls is not None and self._shown[at] != stamps_of(self._tls.files):
            self._retired.append(self._channels.pop(at))
            del self._shown[at]
            self._calls = {key: call for key, call in self._calls.items() if key[0] != at}

    async def close(self) -> None:
        for channel in (*self._channels.values(), *self._retired):
            await channel.close()
