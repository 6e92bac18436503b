"""Where the rules come from: the file, read again when it changes; and how the key management services are."""

from __future__ import annotations

import logging
from pathlib import Path

import yaml

from tiphys.apiserver.config import Config
from tiphys.apiserver.encryption.backend import SealedBackend
from tiphys.apiserver.encryption.config import EncryptionConfigError, EncryptionRules, read_rules
from tiphys.apiserver.encryption.providers import SealError
from tiphys.runtime.clock import Clock
from tiphys.store.backend import Backend

log = logging.getLogger(__name__)

_LOOK_SECONDS = 10.0


def read_file(path: Path) -> EncryptionRules:
    """Raises ``EncryptionConfigError``, which names the file."""
    try:
        return read_rules(yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader))
    except OSError as error:
        raise EncryptionConfigError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise EncryptionConfigError(f"{path} is not YAML: {error}") from error
    except EncryptionConfigError as error:
        raise EncryptionConfigError(f"{path}: {error}") from error


class Sealing:
    """A backend that seals, which follows its file, if reload is on, and the key management services that it names."""

    def __init__(self, config: Config, backend: Backend, clock: Clock) -> None:
        """Raises ``EncryptionConfigError``."""
        assert config.encryption_config is not None
        self._path = config.encryption_config
        self._reload = config.encryption_reload
        self._clock = clock
        self._rules = read_file(self._path)
        self._text = self._path.read_bytes()
        self.backend = SealedBackend(backend, self._rules, config.storage_root)
        self.problem = "the key management services have not been asked yet" if self._rules.services else ""
        """Why values may not be sealed or opened now; empty if they can."""

    async def run(self) -> None:
        while True:
            if self._reload:
                await self._look()
            await self._check()
            await self._clock.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        """Take over a file that has changed; one that cannot be used is reported, and the rules known so far stay."""
        try:
            text = self._path.read_bytes()
            if text == self._text:
                return
            self._text = text
            rules = read_file(self._path)
        except (OSError, EncryptionConfigError) as error:
            log.error("the encryption configuration stays as it was: %s", error)
            return
        left, self._rules = self._rules, rules
        self.backend.use(rules)
        await _close(left)
        log.info("the encryption configuration %s has been read again", self._path)

    async def _check(self) -> None:
        problems = []
        for service in self._rules.services:
            try:
                await service.check()
            except SealError as error:
                problems.append(f"{service.name}: {error}")
        self.problem = "; ".join(problems)

    async def close(self) -> None:
        await _close(self._rules)


async def _close(rules: EncryptionRules) -> None:
    for service in rules.services:
        await service.service.close()
