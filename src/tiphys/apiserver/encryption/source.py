"""Where the rules come from: the file, read again when it changes; and how the key management services are.

Source: https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/
"""

from __future__ import annotations

import logging

from tiphys.apiserver.config import Config
from tiphys.apiserver.configfile import LOOK_SECONDS, Followed
from tiphys.apiserver.encryption.backend import SealedBackend
from tiphys.apiserver.encryption.config import EncryptionRules, read_rules
from tiphys.apiserver.encryption.providers import SealError
from tiphys.runtime import yamltext
from tiphys.runtime.clock import Clock
from tiphys.store.backend import Backend

log = logging.getLogger(__name__)


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
        self.problem = "the key management services have not been asked yet" if self._file.value.services else ""
        """Why values may not be sealed or opened now; empty if they can."""

    async def run(self) -> None:
        while True:
            if self._reload:
                await self._look()
            await self._check()
            await self._clock.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        """Take over a file that has changed."""
        rules = self._file.changed()
        if rules is None:
            return
        left = self._file.value
        self.backend.use(rules)
        self._file.use(rules)
        await _close(left)

    async def _check(self) -> None:
        problems = []
        for service in self._file.value.services:
            try:
                await service.check()
            except SealError as error:
                problems.append(f"{service.name}: {error}")
            except Exception as error:  # the other services are asked all the same
                log.exception("the key management service %s cannot be asked", service.name)
                problems.append(f"{service.name}: {type(error).__name__}")
        self.problem = "; ".join(problems)

    async def close(self) -> None:
        await _close(self._file.value)


async def _close(rules: EncryptionRules) -> None:
    for service in rules.services:
        await service.service.close()
