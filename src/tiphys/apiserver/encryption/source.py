"""Where the rules come from: the file, read again when it changes; and how the key management services are.

Source: https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from tiphys.apiserver.config import Config
from tiphys.apiserver.configfile import Followed, Retired
from tiphys.apiserver.encryption.backend import SealedBackend
from tiphys.apiserver.encryption.config import EncryptionRules, read_rules
from tiphys.apiserver.encryption.kms import KmsV2
from tiphys.apiserver.encryption.providers import SealError
from tiphys.runtime import yamltext
from tiphys.runtime.clock import Clock
from tiphys.store.backend import Backend

log = logging.getLogger(__name__)

_LEAST_GRACE_SECONDS = 10.0
_AGAIN_SECONDS = 0.1


def _parse(text: bytes) -> EncryptionRules:
    return read_rules(yamltext.load(text))


class Sealing:
    """A backend that seals, which follows its file, if reload is on, and the key management services that it names."""

    def __init__(self, config: Config, backend: Backend, clock: Clock) -> None:
        """Raises ``ConfigFileError``."""
        assert config.encryption_config is not None
        self._reload = config.encryption_reload
        self._clock = clock
        self._file = Followed(config.encryption_config, _parse, clock, "encryption")
        self.figures = self._file.figures
        self.backend = SealedBackend(backend, self._file.value, config.storage_root)
        self._retired = Retired(clock)
        self.problem = "the key management services have not been asked yet" if self._file.value.services else ""
        """Why values may not be sealed or opened now; empty if they can."""

    async def run(self) -> None:
        while True:
            if self._reload:
                await self._look()
            await self._check()
            await self._retired.sweep()
            await self._clock.sleep(self._file.pause)

    async def _look(self) -> None:
        """Take over a file that has changed, once the services that it names are well."""
        rules = self._file.changed()
        if rules is None:
            return
        if problem := await self._until_well(rules):
            self._file.refuse(f"health check for new transformers failed: {problem}", for_now=True)
            await _close(rules)
            return
        left = self._file.value
        self.backend.use(rules)
        self._file.use(rules)
        self._retired.add(_grace(left), partial(_close, left))

    async def _until_well(self, rules: EncryptionRules) -> str:
        """What is wrong with the services of new rules after all the time that they are given; empty if nothing is."""
        until = self._clock.monotonic() + _grace(rules)
        while (problem := await _problems(rules)) and self._clock.monotonic() < until:
            await self._clock.sleep(_AGAIN_SECONDS)
        return problem

    async def _check(self) -> None:
        self.problem = await _problems(self._file.value)

    async def close(self) -> None:
        await self._retired.close()
        await _close(self._file.value)


async def _problems(rules: EncryptionRules) -> str:
    """What is wrong with the services; all are asked at once, so that none waits for another."""
    return "; ".join(filter(None, await asyncio.gather(*map(_problem, rules.services))))


async def _problem(service: KmsV2) -> str:
    try:
        await service.check()
    except SealError as error:
        return f"{service.name}: {error}"
    except Exception as error:  # the other services are asked all the same
        log.exception("the key management service %s cannot be asked", service.name)
        return f"{service.name}: {type(error).__name__}"
    return ""


def _grace(rules: EncryptionRules) -> float:
    """Seconds after which no request can be waiting for the services of these rules."""
    return max(_LEAST_GRACE_SECONDS, 2 * sum(service.service.timeout for service in rules.services))


async def _close(rules: EncryptionRules) -> None:
    for service in rules.services:
        await service.service.close()
