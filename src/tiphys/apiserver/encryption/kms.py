"""KMS v2: values are sealed by keys that are derived from a seed, and the seed by a key management service.

The service is a gRPC server on a Unix socket. It is asked once for each seed: when this server makes one, and when it
first meets another's. A new seed is made when the service changes its key.
Source: KEP-3299 and https://kubernetes.io/docs/tasks/administer-cluster/kms-provider/
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections import OrderedDict
from functools import lru_cache
from importlib.resources import files
from typing import Any

from google.protobuf.message import DecodeError

from tiphys.apiserver.encryption.providers import PREFIX, AesGcm, Cipher, Opened, SealError
from tiphys.wire.protobuf import Schema

_SERVICE = "KeyManagementService"
_AES_KEY, _SEED = 0, 1
_SEED_BYTES = 32
_Identity = tuple[int, bytes, str]
_FAILED_SECONDS = 5.0
_MAX_KNOWN = 1000


@lru_cache(maxsize=1)
def schema() -> Schema:
    return Schema(files("tiphys.apiserver.encryption").joinpath("kms.proto").read_text(), "kms.proto")


class Derived:
    """Each value gets its own key, derived from the seed and 32 random bytes in front of it."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed

    def encrypt(self, value: bytes, key: bytes) -> bytes:
        info = os.urandom(_SEED_BYTES)
        return info + self._cipher(info).encrypt(value, key)

    def decrypt(self, data: bytes, key: bytes) -> bytes:
        info = data[:_SEED_BYTES]
        if len(info) < _SEED_BYTES:
            raise SealError("the stored data was shorter than the required size")
        return self._cipher(info).decrypt(data[_SEED_BYTES:], key)

    def _cipher(self, info: bytes) -> AesGcm:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

        return AesGcm(HKDFExpand(SHA256(), _SEED_BYTES, info).derive(self._seed))


class Service:
    """A key management service. ``timeout`` in seconds for each call."""

    def __init__(self, endpoint: str, timeout: float) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._channel: Any = None

    async def call(self, method: str, **fields: Any) -> Any:
        """Raises ``SealError``."""
        import grpc.aio

        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._endpoint, [("grpc.default_authority", "localhost")])
        about = schema().methods(_SERVICE)[method]
        stub = self._channel.unary_unary(
            about.path,
            request_serializer=about.request.SerializeToString,
            response_deserializer=about.response.FromString,
        )
        try:
            return await stub(about.request(**fields), timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            raise SealError(f"rpc error: code = {error.code().name} desc = {error.details()}") from error

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


class KmsV2:
    def __init__(self, name: str, service: Service) -> None:
        self.prefix = PREFIX + f"kms:v2:{name}:".encode()
        self.name = name
        self.service = service
        self._seal: tuple[Derived, Any] | None = None
        """The cipher that seals now, and what the stored value says of its seed."""
        self._known: OrderedDict[_Identity, Cipher] = OrderedDict()
        self._fetching: dict[_Identity, asyncio.Task[Cipher]] = {}
        self._failed: OrderedDict[_Identity, tuple[float, str]] = OrderedDict()
        """Until when, by the loop's time, a key that could not be fetched is not fetched again, and why not."""
        self._renewing = asyncio.Lock()

    async def check(self) -> None:
        """Ask the service how it is, and make a new seed if it has changed its key. Raises ``SealError``."""
        status = await self.service.call("Status")
        if status.version not in ("v2", "v2beta1"):
            raise SealError(f"expected KMSv2 API version v2, got {status.version}")
        if status.healthz != "ok":
            raise SealError(f"expected healthz status to be ok, got {status.healthz}")
        if not status.key_id:
            raise SealError("expected KMSv2 KeyID to be set, got empty")
        if self._seal is None or self._seal[1].keyID != status.key_id:
            await self._renew()

    async def _renew(self) -> None:
        seed = os.urandom(_SEED_BYTES)
        answer = await self.service.call("Encrypt", plaintext=seed, uid=str(uuid.uuid4()))
        about = schema().message("EncryptedObject")(
            keyID=answer.key_id,
            encryptedDEKSource=answer.ciphertext,
            annotations=dict(answer.annotations),
            encryptedDEKSourceType=_SEED,
        )
        cipher = Derived(seed)
        self._remember(about, cipher)
        self._seal = cipher, about

    async def seal(self, value: bytes, key: bytes) -> bytes:
        async with self._renewing:
            if self._seal is None:
                await self.check()
        assert self._seal is not None
        cipher, about = self._seal
        message = schema().message("EncryptedObject")()
        message.CopyFrom(about)
        message.encryptedData = cipher.encrypt(value, key)
        return self.prefix + bytes(message.SerializeToString(deterministic=True))

    async def open(self, stored: bytes, key: bytes) -> Opened:
        message = schema().message("EncryptedObject")()
        try:
            message.ParseFromString(stored.removeprefix(self.prefix))
        except DecodeError as error:
            raise SealError(f"the stored data is no EncryptedObject: {error}") from error
        cipher = self._known.get(_identity(message)) or await self._shared_fetch(message)
        current = None if self._seal is None else self._seal[1]
        stale = current is not None and (
            message.keyID != current.keyID or message.encryptedDEKSourceType != current.encryptedDEKSourceType
        )
        return Opened(cipher.decrypt(message.encryptedData, key), stale)

    async def _shared_fetch(self, message: Any) -> Cipher:
        """One request for all values that a key opens; after a failure the next ones do not wait as long again."""
        identity, now = _identity(message), asyncio.get_running_loop().time()
        until, reason = self._failed.get(identity, (now, ""))
        if now < until:
            raise SealError(reason)
        fetch = self._fetching.get(identity)
        if fetch is None:
            fetch = self._fetching[identity] = asyncio.ensure_future(self._fetch(message))
            fetch.add_done_callback(lambda done: self._fetched(identity, done))
        return await asyncio.shield(fetch)

    def _fetched(self, identity: _Identity, fetch: asyncio.Task[Cipher]) -> None:
        del self._fetching[identity]
        if not fetch.cancelled() and (error := fetch.exception()) is not None:
            self._failed[identity] = asyncio.get_running_loop().time() + _FAILED_SECONDS, str(error)
            if len(self._failed) > _MAX_KNOWN:
                self._failed.popitem(last=False)

    async def _fetch(self, message: Any) -> Cipher:
        """Raises ``SealError``."""
        answer = await self.service.call(
            "Decrypt",
            ciphertext=message.encryptedDEKSource,
            uid=str(uuid.uuid4()),
            key_id=message.keyID,
            annotations=dict(message.annotations),
        )
        if message.encryptedDEKSourceType not in (_AES_KEY, _SEED):
            raise SealError(f"unknown encryptedDEKSourceType: {message.encryptedDEKSourceType}")
        seeded = message.encryptedDEKSourceType == _SEED
        try:
            cipher: Cipher = Derived(answer.plaintext) if seeded else AesGcm(answer.plaintext)
        except ValueError as error:
            raise SealError(f"what the key management service decrypted is no key: {error}") from error
        self._remember(message, cipher)
        return cipher

    def _remember(self, message: Any, cipher: Cipher) -> None:
        self._known[_identity(message)] = cipher
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)


def _identity(message: Any) -> _Identity:
    return message.encryptedDEKSourceType, bytes(message.encryptedDEKSource), message.keyID
