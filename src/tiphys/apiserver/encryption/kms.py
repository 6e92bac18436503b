"""KMS v2: values are sealed by keys that are derived from a seed, and the seed by a key management service.

The service is a gRPC server on a Unix socket. It is asked once for each seed: when this server makes one, and when it
first meets another's. A new seed is made when the service changes its key.
Source: KEP-3299 and https://kubernetes.io/docs/tasks/administer-cluster/kms-provider/
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections import OrderedDict
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from tiphys.api.fielderrors import FieldError
from tiphys.api.gotext import quote
from tiphys.apiserver.encryption.providers import PREFIX, AesGcm, Cipher, Opened, SealError
from tiphys.runtime.expiring import SharedCalls
from tiphys.validation.shared.common import fully_qualified_domain
from tiphys.wire.protobuf import Schema

_SERVICE = "KeyManagementService"
_AES_KEY, _SEED = 0, 1
_SEED_BYTES = 32
_VERSIONS = ("v2", "v2beta1")
_Identity = tuple[int, bytes, str, tuple[tuple[str, bytes], ...]]
SEAL_SECONDS = 180.0
"""How long a seed seals after the service was last well."""
_UNWELL_SECONDS = 3.0
_FAILED_SECONDS = 5.0
_MAX_KNOWN = 1000
_MAX_KEY_ID = _MAX_SOURCE = 1024
_MAX_ANNOTATIONS = 32 * 1024


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
        self.timeout = timeout
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
            return await stub(about.request(**fields), timeout=self.timeout)
        except grpc.aio.AioRpcError as error:
            raise SealError(f"rpc error: code = {error.code().name} desc = {error.details()}") from error

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


class _Seal(NamedTuple):
    """What seals now. ``expires``, by the loop's time: not for ever without a word from the service, whose key may have
    been withdrawn."""

    cipher: Derived
    about: Any
    """The stored value without its data: what it says of its seed."""
    expires: float


class KmsV2:
    def __init__(self, name: str, service: Service) -> None:
        self.prefix = PREFIX + f"kms:v2:{name}:".encode()
        self.name = name
        self.service = service
        self._seal: _Seal | None = None
        self._version = ""
        """Of the service's API, as it said it first."""
        self._known: OrderedDict[_Identity, Cipher] = OrderedDict()
        self._fetching: SharedCalls[_Identity, Cipher] = SharedCalls()
        self._failed: OrderedDict[_Identity, tuple[float, str]] = OrderedDict()
        """Until when, by the loop's time, a key that could not be fetched is not fetched again, and why not."""
        self._renewing = asyncio.Lock()
        self._unwell: tuple[float, str] = (0.0, "")
        """Until when nobody who writes asks the service again how it is, and why not."""

    async def check(self) -> None:
        """Ask the service how it is, and make a new seed if it has changed its key. Raises ``SealError``."""
        async with self._renewing:
            await self._check()

    async def _check(self) -> None:
        try:
            status = await self.service.call("Status")
            self._judge(status)
            expires = _now() + SEAL_SECONDS
            if self._seal is not None and self._seal.about.keyID == status.key_id:
                self._seal = self._seal._replace(expires=expires)
            else:
                self._seal = await self._renewed(status.key_id, expires)
        except SealError as error:
            self._unwell = _now() + _UNWELL_SECONDS, str(error)
            raise

    def _judge(self, status: Any) -> None:
        if status.healthz != "ok":
            raise SealError(f"got unexpected healthz status: {status.healthz}")
        if status.version not in _VERSIONS:
            raise SealError(f"expected KMSv2 API version {_VERSIONS[0]}, got {status.version}")
        self._version = self._version or status.version
        if status.version != self._version:
            raise SealError(
                "KMSv2 API version should not change after the initial status response version"
                f" {self._version}, got {status.version}"
            )
        if problem := _key_id_problem(status.key_id):
            raise SealError(f"got invalid KMSv2 KeyID: {problem}")

    async def _renewed(self, key_id: str, expires: float) -> _Seal:
        """A new seed, sealed by the key of this name. What seals so far stays if the service gives none that can be
        kept. Raises ``SealError``."""
        seed = os.urandom(_SEED_BYTES)
        answer = await self.service.call("Encrypt", plaintext=seed, uid=str(uuid.uuid4()))
        about = schema().message("EncryptedObject")(
            keyID=answer.key_id,
            encryptedDEKSource=answer.ciphertext,
            annotations=dict(answer.annotations),
            encryptedDEKSourceType=_SEED,
        )
        if problem := _problem(about):
            raise SealError(f"failed to rotate DEK: got invalid EncryptedObject: {problem}")
        if answer.key_id != key_id:
            raise SealError("failed to rotate DEK: the service's status and its encryption name different keys")
        cipher = Derived(seed)
        self._remember(about, cipher)
        return _Seal(cipher, about, expires)

    async def seal(self, value: bytes, key: bytes) -> bytes:
        cipher, about, expires = self._seal or await self._first_seal()
        if _now() > expires:
            raise SealError(
                f"encryptedDEKSource with keyID hash {quote(_hash(about.keyID))} expired"
                f" {_now() - expires:.0f} seconds ago: {self._unwell[1] or 'the service has not been asked since'}"
            )
        message = schema().message("EncryptedObject")()
        message.CopyFrom(about)
        message.encryptedData = cipher.encrypt(value, key)
        return self.prefix + bytes(message.SerializeToString(deterministic=True))

    async def _first_seal(self) -> _Seal:
        """One asks for all that come before the first word of the service; after a failure the next ones do not wait
        as long again."""
        async with self._renewing:
            if self._seal is None:
                until, reason = self._unwell
                if _now() < until:
                    raise SealError(reason)
                await self._check()
        assert self._seal is not None
        return self._seal

    async def open(self, stored: bytes, key: bytes) -> Opened:
        message = schema().message("EncryptedObject")()
        try:
            message.ParseFromString(stored.removeprefix(self.prefix))
        except DecodeError as error:
            raise SealError(f"the stored data is no EncryptedObject: {error}") from error
        cipher = self._known.get(_identity(message)) or await self._shared_fetch(message)
        current = None if self._seal is None else self._seal.about
        stale = current is not None and (
            message.keyID != current.keyID or message.encryptedDEKSourceType != current.encryptedDEKSourceType
        )
        return Opened(cipher.decrypt(message.encryptedData, key), stale)

    async def _shared_fetch(self, message: Any) -> Cipher:
        """One request for all values that a key opens; after a failure the next ones do not wait as long again."""
        identity, now = _identity(message), _now()
        until, reason = self._failed.get(identity, (now, ""))
        if now < until:
            raise SealError(reason)
        return await self._fetching.answer(identity, lambda: self._fetched(identity, message))

    async def _fetched(self, identity: _Identity, message: Any) -> Cipher:
        try:
            return await self._fetch(message)
        except SealError as error:
            self._failed[identity] = _now() + _FAILED_SECONDS, str(error)
            if len(self._failed) > _MAX_KNOWN:
                self._failed.popitem(last=False)
            raise

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
    annotations = tuple(sorted(message.annotations.items()))
    return message.encryptedDEKSourceType, bytes(message.encryptedDEKSource), message.keyID, annotations


def _now() -> float:
    return asyncio.get_running_loop().time()


def _hash(key_id: str) -> str:
    return f"sha256:{hashlib.sha256(key_id.encode()).hexdigest()}"


def _problem(about: Any) -> str:
    """Why nothing may be stored that says this of its seed; empty if it may."""
    source, annotations = about.encryptedDEKSource, about.annotations
    if not source:
        return "failed to validate encrypted DEK source: encrypted DEK source is empty"
    if len(source) > _MAX_SOURCE:
        size = f"encrypted DEK source is {len(source)} bytes, which exceeds the max size of {_MAX_SOURCE}"
        return f"failed to validate encrypted DEK source: {size}"
    if problem := _key_id_problem(about.keyID):
        return f"failed to validate key id: {problem}"
    total = sum(len(name.encode()) + len(value) for name, value in annotations.items())
    errs: list[FieldError] = []
    for name in annotations:
        fully_qualified_domain(errs, name, "annotations")
    problems = [str(error) for error in errs]
    if total > _MAX_ANNOTATIONS:
        problems.append(f"total size of annotations is {total}, which exceeds the max size of {_MAX_ANNOTATIONS}")
    return f"failed to validate annotations: {'; '.join(problems)}" if problems else ""


def _key_id_problem(key_id: str) -> str:
    size = len(key_id.encode())
    if not size:
        return "keyID is empty"
    return f"keyID is {size} bytes, which exceeds the max size of {_MAX_KEY_ID}" if size > _MAX_KEY_ID else ""
