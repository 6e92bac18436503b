"""Everything about images that a kubelet needs, made from its configuration, and kept tidy.

Source: KEP-2535 for the records, https://kubernetes.io/docs/concepts/containers/images/ for the rest.
"""

from __future__ import annotations

import logging

from tiphys.api.object import Object
from tiphys.client.resources import SERVICE_ACCOUNTS
from tiphys.client.rest import Client
from tiphys.client.throttle import RequestRate
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.container.images import ImageManager
from tiphys.kubelet.images.credentials import ImageCredentials
from tiphys.kubelet.images.figures import ImageFigures
from tiphys.kubelet.images.nodekeyring import NodeKeyring
from tiphys.kubelet.images.providerconfig import configured
from tiphys.kubelet.images.providers import CredentialProviders
from tiphys.kubelet.images.pulls import PullManager
from tiphys.kubelet.images.records import PullRecords
from tiphys.kubelet.images.verification import Verification, VerificationPolicy
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.recorder import PodEvents
from tiphys.kubelet.runtime.service import ImageService, RuntimeFailure
from tiphys.kubelet.tokens import TokenManager
from tiphys.kubelet.volumes.payloads import TokenSpec
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

PRUNE_PERIOD = 300.0
"""Seconds between looks for records of images that are gone."""
_TOKEN_SECONDS = 3600


class PodImages:
    """``manager`` has pods' images pulled; ``figures`` is a collector of prometheus_client's."""

    def __init__(
        self, config: KubeletConfig, *, client: Client, service: ImageService, clock: Clock, events: PodEvents
    ) -> None:
        """Raises ``ProviderConfigError``."""
        self._client, self._service, self._clock = client, service, clock
        self._tokens = TokenManager(client, clock)
        self.figures = ImageFigures()
        self._providers: CredentialProviders | None = None
        if config.provider_config or config.provider_folder:
            self._providers = self._make_providers(config)
        verification = Verification(VerificationPolicy(config.image_verification), config.image_allowlist)
        self._pulls = PullManager(PullRecords(config.root), verification, clock, self.figures)
        self.manager = ImageManager(
            service,
            clock,
            events,
            pulls=self._pulls,
            credentials=ImageCredentials(NodeKeyring(config.root, clock), self._providers),
            figures=self.figures,
            parallel=1 if config.serialize_image_pulls else config.parallel_image_pulls,
            rate=RequestRate(config.registry_qps, config.registry_burst) if config.registry_qps else None,
        )

    def _make_providers(self, config: KubeletConfig) -> CredentialProviders:
        providers, digest = configured(config.provider_config, config.provider_folder)
        self.figures.configured(digest)
        return CredentialProviders(
            providers,
            folder=config.provider_folder,
            clock=self._clock,
            figures=self.figures,
            account=self._account,
            token=self._token,
        )

    async def _account(self, namespace: str, name: str) -> Object:
        return await self._client.get(SERVICE_ACCOUNTS, name, namespace)

    async def _token(self, pod: Pod, audience: str, account: str) -> str:
        return await self._tokens.token(pod, TokenSpec(audience, _TOKEN_SECONDS, account))

    async def take_over(self) -> None:
        """Look at the pulls that a kubelet before this one did not see to their end."""
        try:
            images = await self._service.list_images() if self._pulls.unfinished() else ()
        except RuntimeFailure as error:
            log.error("cannot list the images: %s", error)
        else:
            self._pulls.take_over(images)

    async def keep_tidy(self) -> None:
        """Forget images that are gone, again and again."""
        while True:
            await self._clock.sleep(PRUNE_PERIOD)
            began = self._clock.now()
            try:
                present = [image.id for image in await self._service.list_images()]
            except RuntimeFailure as error:
                log.warning("cannot list the images: %s", error)
                continue
            self._pulls.prune(present, began)

    def forget(self, pod_uid: str) -> None:
        self._tokens.release(pod_uid)

    def close(self) -> None:
        if self._providers is not None:
            self._providers.close()
