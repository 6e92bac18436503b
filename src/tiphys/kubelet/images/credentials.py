"""The credentials that fit a pod's image: its own Secrets' first, then the node's, then those of programs.

Source: https://kubernetes.io/docs/concepts/containers/images/#using-a-private-registry
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.kubelet.images.keyring import Credential, keyring_of_secrets, lookup
from tiphys.kubelet.images.nodekeyring import NodeKeyring
from tiphys.kubelet.images.providers import CredentialProviders
from tiphys.kubelet.pod.pods import Pod


class ImageCredentials:
    def __init__(self, node: NodeKeyring, providers: CredentialProviders | None = None) -> None:
        self._node = node
        self._providers = providers

    async def fitting(self, image: str, pod: Pod, secrets: Iterable[Mapping[str, Any]]) -> list[Credential]:
        """Those to try in turn; ``image`` is the name with the registry, without a tag. Raises ``KeyringError``."""
        rings = [keyring_of_secrets(secrets), self._node.ring()]
        if self._providers is not None:
            rings.append(await self._providers.rings(image, pod))
        return lookup(image, rings)
