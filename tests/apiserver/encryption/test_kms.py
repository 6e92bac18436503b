"""What KMS v2 does when its service is slow, ill, or gives what cannot be kept; on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tiphys.apiserver.encryption.kms import SEAL_SECONDS, KmsV2, Service, schema
from tiphys.apiserver.encryption.providers import SealError
from tiphys.runtime.clock import VirtualTimeLoop

KEY = b"/registry/secrets/default/s"


class Scripted(Service):
    """A service as the tests want it: it turns bytes around under ``key_id``."""

    def __init__(self) -> None:
        super().__init__("unix:///nowhere", 3.0)
        self.key_id, self.healthz, self.version = "key-1", "ok", "v2"
        self.calls: list[str] = []
        self.seconds = 0.0
        self.down = False
        self.encrypted: dict[str, Any] = {}
        """What an answer to Encrypt has in place of what is right."""

    async def call(self, method: str, **fields: Any) -> Any:
        self.calls.append(method)
        try:
            async with asyncio.timeout(self.timeout):
                await asyncio.sleep(self.seconds)
        except TimeoutError:
            raise SealError("rpc error: code = DEADLINE_EXCEEDED desc = Deadline Exceeded") from None
        if self.down:
            raise SealError("rpc error: code = UNAVAILABLE desc = no")
        response = schema().methods("KeyManagementService")[method].response
        match method:
            case "Status":
                return response(version=self.version, healthz=self.healthz, key_id=self.key_id)
            case "Encrypt":
                answer = {"ciphertext": fields["plaintext"][::-1], "key_id": self.key_id, "annotations": {"a.b": b"1"}}
                return response(**(answer | self.encrypted))
        return response(plaintext=fields["ciphertext"][::-1])


def run(work: Callable[[KmsV2, Scripted], Awaitable[None]]) -> None:
    loop, service = VirtualTimeLoop(), Scripted()
    try:
        loop.run_until_complete(work(KmsV2("vault", service), service))
    finally:
        loop.close()


async def fails(kms: KmsV2, words: str) -> None:
    with pytest.raises(SealError, match=words):
        await kms.seal(b"value", KEY)


def test_nothing_is_sealed_by_a_key_that_the_service_has_not_confirmed_for_three_minutes() -> None:
    async def work(kms: KmsV2, service: Scripted) -> None:
        await kms.check()
        stored = await kms.seal(b"value", KEY)
        for _ in range(5):
            await asyncio.sleep(SEAL_SECONDS - 1)
            await kms.check()
        assert service.calls.count("Encrypt") == 1
        service.down = True
        await asyncio.sleep(SEAL_SECONDS - 1)
        with pytest.raises(SealError, match="UNAVAILABLE"):
            await kms.check()
        assert (await kms.open(await kms.seal(b"other", KEY), KEY)).value == b"other"
        await asyncio.sleep(2)
        await fails(kms, 'keyID hash "sha256:[0-9a-f]{64}" expired 1 seconds ago: .*UNAVAILABLE')
        assert (await kms.open(stored, KEY)).value == b"value"
        service.down = False
        await kms.check()
        await kms.seal(b"value", KEY)
        assert service.calls.count("Encrypt") == 1

    run(work)


def test_of_many_that_write_while_the_service_hangs_none_waits_longer_than_one_try() -> None:
    async def work(kms: KmsV2, service: Scripted) -> None:
        service.seconds = 60.0
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(fails(kms, "DEADLINE_EXCEEDED") for _ in range(100)))
        assert asyncio.get_running_loop().time() - began == pytest.approx(3.0)
        assert service.calls == ["Status"]
        service.seconds = 0.0
        await asyncio.sleep(4)
        sealed = await asyncio.gather(*(kms.seal(b"%d" % number, KEY) for number in range(100)))
        assert service.calls == ["Status", "Status", "Encrypt"]
        assert [(await kms.open(stored, KEY)).value for stored in sealed] == [b"%d" % number for number in range(100)]

    run(work)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"key_id": "key-3"}, "name different keys"),
        ({"key_id": ""}, "failed to validate key id: keyID is empty"),
        ({"key_id": "k" * 1025}, "keyID is 1025 bytes, which exceeds the max size of 1024"),
        ({"ciphertext": b""}, "encrypted DEK source is empty"),
        ({"ciphertext": b"c" * 1025}, "encrypted DEK source is 1025 bytes, which exceeds the max size of 1024"),
        ({"annotations": {"a": b"1"}}, "should be a domain with at least two segments separated by dots"),
        (
            {"annotations": {"a.b": b"1" * 32768}},
            "annotations is 32771, which exceeds the max size of 32768",
        ),
    ],
)
def test_a_new_key_that_cannot_be_kept_leaves_the_one_before_in_force(answer: dict[str, Any], words: str) -> None:
    async def work(kms: KmsV2, service: Scripted) -> None:
        await kms.check()
        service.key_id, service.encrypted = "key-2", answer
        with pytest.raises(SealError, match=words):
            await kms.check()
        assert b"key-1" in await kms.seal(b"value", KEY)
        service.encrypted = {}
        await kms.check()
        assert b"key-2" in await kms.seal(b"value", KEY)

    run(work)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"healthz": "ill"}, "got unexpected healthz status: ill"),
        ({"version": "v1"}, "expected KMSv2 API version v2, got v1"),
        ({"version": "v2beta1"}, "should not change after the initial status response version v2, got v2beta1"),
        ({"key_id": ""}, "got invalid KMSv2 KeyID: keyID is empty"),
    ],
)
def test_a_status_that_is_not_well(change: dict[str, str], words: str) -> None:
    async def work(kms: KmsV2, service: Scripted) -> None:
        await kms.check()
        for name, value in change.items():
            setattr(service, name, value)
        with pytest.raises(SealError, match=words):
            await kms.check()

    run(work)


def test_a_seed_with_other_annotations_is_asked_about_again() -> None:
    async def work(kms: KmsV2, service: Scripted) -> None:
        await kms.check()
        message = schema().message("EncryptedObject")()
        message.ParseFromString((await kms.seal(b"value", KEY)).removeprefix(kms.prefix))
        message.annotations["a.b"] = b"2"
        changed = kms.prefix + message.SerializeToString()
        assert (await kms.open(changed, KEY)).value == b"value"
        assert service.calls == ["Status", "Encrypt", "Decrypt"]

    run(work)
