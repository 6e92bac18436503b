"""One call of a program that gives credentials for images: a request on its stdin, an answer on its stdout.

Source: KEP-2133, https://kubernetes.io/docs/tasks/administer-cluster/kubelet-credential-provider/
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api.gotext import json_text
from tiphys.kubelet.images.keyring import Credential
from tiphys.kubelet.images.providerconfig import Provider
from tiphys.runtime import durations

LIMIT = 60.0
"""Seconds that a program has."""
MOST_OUTPUT = 1 << 20
"""Bytes of an answer that are read; a program that says more is ended."""
_MOST_COMPLAINTS = 4096
_CACHE_KEYS = ("Image", "Registry", "Global")


class ProviderFailure(Exception):
    """A program gave no credentials; no message has any in it."""


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """``cache_seconds`` is None if the configured time counts."""

    cache_key: str
    cache_seconds: float | None
    entries: Mapping[str, Credential]


async def ask(
    provider: Provider, folder: str, image: str, token: str, annotations: Mapping[str, str], limit: float = LIMIT
) -> ProviderAnswer:
    """What the program says. Raises ``ProviderFailure``."""
    about = f"error execing credential provider plugin {provider.name} for image {image}"
    try:
        transport, talk = await asyncio.get_running_loop().subprocess_exec(
            _Talk,
            os.path.join(folder, provider.name),
            *provider.args,
            env={**os.environ, **dict(provider.env)},
            start_new_session=True,
        )
    except OSError as error:
        raise ProviderFailure(f"{about}: {error.strerror}: ") from error
    try:
        talk.say(request(provider.api_version, image, token, annotations))
        async with asyncio.timeout(limit):
            await talk.over
    except TimeoutError as error:
        raise ProviderFailure(f"{about}: context deadline exceeded: ") from error
    except _TooMuch as error:
        raise ProviderFailure(f"{about}: it wrote more than {MOST_OUTPUT} bytes: ") from error
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(transport.get_pid(), signal.SIGKILL)  # what it has started ends with it
        await talk.ended.wait()
        transport.close()
    if (code := transport.get_returncode()) != 0:
        how = f"exit status {code}" if code is None or code > 0 else f"signal: {signal.strsignal(-code)}".lower()
        raise ProviderFailure(f"{about}: {how}: {talk.complaints.decode(errors='replace')}")
    return read_answer(bytes(talk.output), provider.api_version)


class _TooMuch(Exception):
    """The program writes without end."""


class _Talk(asyncio.SubprocessProtocol):
    """``over`` is done when the program has ended and nobody can write to its outputs any more."""

    def __init__(self) -> None:
        self.output = bytearray()
        self.complaints = bytearray()
        """The beginning of them."""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()
        """The program itself has."""
        self._left = {1, 2, "process"}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def say(self, data: bytes) -> None:
        stdin = self._transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)
        stdin.write(data)
        stdin.close()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self.complaints += data[: _MOST_COMPLAINTS - len(self.complaints)]
            return
        self.output += data[: MOST_OUTPUT + 1 - len(self.output)]
        if len(self.output) > MOST_OUTPUT and not self.over.done():
            self.over.set_exception(_TooMuch())

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._end(fd)

    def process_exited(self) -> None:
        self.ended.set()
        self._end("process")

    def _end(self, part: int | str) -> None:
        self._left.discard(part)
        if not self._left and not self.over.done():
            self.over.set_result(None)


def request(api_version: str, image: str, token: str, annotations: Mapping[str, str]) -> bytes:
    """The request; only v1 has the token and the annotations."""
    given: dict[str, Any] = {"kind": "CredentialProviderRequest", "apiVersion": api_version, "image": image}
    if token:
        given["serviceAccountToken"] = token
    if annotations:
        given["serviceAccountAnnotations"] = dict(sorted(annotations.items()))
    return json_text(given).encode() + b"\n"


def read_answer(data: bytes, api_version: str) -> ProviderAnswer:
    """Raises ``ProviderFailure``."""
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        raise ProviderFailure("error reading GVK from response: couldn't get version/kind; json parse error") from None
    actual = given.get("apiVersion") if isinstance(given, dict) else None
    if not isinstance(actual, str):
        raise ProviderFailure("error reading GVK from response: couldn't get version/kind; json parse error")
    if actual != api_version:
        versions = f"expected apiVersion:{api_version}, actual apiVersion:{actual}"
        raise ProviderFailure(f"apiVersion from credential plugin response did not match {versions}")
    try:
        return _answer(given)
    except (ValueError, TypeError, AttributeError):
        raise ProviderFailure("error decoding credential provider plugin response from stdout") from None


def _answer(given: dict[str, Any]) -> ProviderAnswer:
    known = {"kind", "apiVersion", "cacheKeyType", "cacheDuration", "auth"}
    if given.get("kind") != "CredentialProviderResponse" or not known >= given.keys():
        raise ValueError
    entries = {}
    for location, entry in (given.get("auth") or {}).items():
        if not {"username", "password"} >= entry.keys():
            raise ValueError
        entries[location] = Credential(_text(entry.get("username")), _text(entry.get("password")))
    seconds = given.get("cacheDuration")
    return ProviderAnswer(
        _text(given.get("cacheKeyType")), None if seconds is None else durations.seconds(_text(seconds)), entries
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError
    return value


def check_cache_key(cache_key: str) -> None:
    """Raises ``ProviderFailure``."""
    if cache_key not in _CACHE_KEYS:
        raise ProviderFailure(f"credential provider plugin did not return a valid cacheKeyType: {cache_key}")
