"""Providers: how a value is sealed for the store and opened again. Each kind has a prefix that its values begin with.

A value is bound to its key in the store: one that was moved there from elsewhere does not open (but for aescbc, which
authenticates nothing). Source: https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/#providers
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag

from tiphys.store.backend import StoreError

PREFIX = b"k8s:enc:"
"""Of every value that is sealed."""
_BLOCK, _NONCE = 16, 12


class SealError(StoreError):
    """A value cannot be opened, or sealed; the text says why."""


@dataclass(frozen=True, slots=True)
class Opened:
    value: bytes
    stale: bool = False
    """Whether it would be sealed in another way today."""


class Provider(Protocol):
    prefix: bytes

    async def seal(self, value: bytes, key: bytes) -> bytes:
        """The value as it is stored under ``key``, with the prefix. Raises ``SealError``."""
        ...

    async def open(self, stored: bytes, key: bytes) -> Opened:
        """The value behind the prefix. Raises ``SealError``."""
        ...


class IdentityProvider:
    """Values as they are. Refuses to read what another provider has sealed."""

    prefix = b""

    async def seal(self, value: bytes, key: bytes) -> bytes:
        return value

    async def open(self, stored: bytes, key: bytes) -> Opened:
        if stored.startswith(PREFIX):
            raise SealError("identity transformer tried to read encrypted data")
        return Opened(stored)


class Cipher(Protocol):
    """One key of one kind of encryption."""

    def encrypt(self, value: bytes, key: bytes) -> bytes: ...

    def decrypt(self, data: bytes, key: bytes) -> bytes:
        """Raises ``SealError``."""
        ...


class AesGcm:
    def __init__(self, secret: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._aead = AESGCM(secret)

    def encrypt(self, value: bytes, key: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._aead.encrypt(nonce, value, key)

    def decrypt(self, data: bytes, key: bytes) -> bytes:
        if len(data) < _NONCE:
            raise SealError("the stored data was shorter than the required size")
        try:
            return self._aead.decrypt(data[:_NONCE], data[_NONCE:], key)
        except InvalidTag:
            raise SealError("cipher: message authentication failed") from None


class AesCbc:
    """With PKCS #7 padding. It does not notice changes; upstream keeps it for old stores."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def encrypt(self, value: bytes, key: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        padding = _BLOCK - len(value) % _BLOCK
        vector = os.urandom(_BLOCK)
        encryptor = Cipher(algorithms.AES(self._secret), modes.CBC(vector)).encryptor()
        return vector + encryptor.update(value + bytes([padding]) * padding) + encryptor.finalize()

    def decrypt(self, data: bytes, key: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        if len(data) < _BLOCK:
            raise SealError("the stored data was shorter than the required size")
        if len(data) % _BLOCK:
            raise SealError("the stored data is not a multiple of the block size")
        decryptor = Cipher(algorithms.AES(self._secret), modes.CBC(data[:_BLOCK])).decryptor()
        padded = decryptor.update(data[_BLOCK:]) + decryptor.finalize()
        padding = padded[-1] if padded else 0
        if not 0 < padding <= _BLOCK or padded[-padding:] != bytes([padding]) * padding:
            raise SealError("invalid PKCS7 data (empty or not padded)")
        return padded[:-padding]


class Secretbox:
    """XSalsa20 and Poly1305, as NaCl has them."""

    def __init__(self, secret: bytes) -> None:
        from nacl.secret import SecretBox

        self._box = SecretBox(secret)

    def encrypt(self, value: bytes, key: bytes) -> bytes:
        return bytes(self._box.encrypt(value))

    def decrypt(self, data: bytes, key: bytes) -> bytes:
        from nacl.exceptions import CryptoError

        try:
            return bytes(self._box.decrypt(data))
        except (CryptoError, ValueError):
            raise SealError("the stored data cannot be authenticated") from None


class Keyed:
    """Several named keys of one kind. The first one seals; each opens what it has sealed."""

    def __init__(self, kind: str, keys: Sequence[tuple[str, Cipher]]) -> None:
        self.prefix = PREFIX + f"{kind}:v1:".encode()
        self._keys = [(f"{name}:".encode(), cipher) for name, cipher in keys]

    async def seal(self, value: bytes, key: bytes) -> bytes:
        name, cipher = self._keys[0]
        return self.prefix + name + cipher.encrypt(value, key)

    async def open(self, stored: bytes, key: bytes) -> Opened:
        data = stored.removeprefix(self.prefix)
        wrong = "no matching key was found for the provided AES transformer"
        for number, (name, cipher) in enumerate(self._keys):
            if data.startswith(name):
                try:
                    return Opened(cipher.decrypt(data[len(name) :], key), stale=number > 0)
                except SealError as error:
                    wrong = str(error)
        raise SealError(wrong)


class Chain:
    """The providers of a resource, in order. The first one seals; whichever prefix fits opens."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self.providers = tuple(providers)

    async def seal(self, value: bytes, key: bytes) -> bytes:
        return await self.providers[0].seal(value, key)

    async def open(self, stored: bytes, key: bytes) -> Opened:
        """Raises ``SealError``."""
        failures = []
        for number, provider in enumerate(self.providers):
            if stored.startswith(provider.prefix):
                try:
                    opened = await provider.open(stored, key)
                except SealError as error:
                    failures.append(str(error))
                else:
                    return Opened(opened.value, opened.stale or number > 0)
        raise SealError(failures[-1] if failures else "no matching prefix found")
