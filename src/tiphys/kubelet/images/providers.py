"""Credentials from programs: which of them are asked for an image, what is remembered of their answers, and for whom.

Each is asked beside the others: one that fails, or takes its minute, costs no other's credentials. Source: KEP-2133
and KEP-4412, https://kubernetes.io/docs/tasks/administer-cluster/kubelet-credential-provider/
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.kubelet.images import providerexec
from tiphys.kubelet.images.figures import ImageFigures
from tiphys.kubelet.images.keyring import Coordinates, Credential, Keyring
from tiphys.kubelet.images.locations import matches
from tiphys.kubelet.images.providerconfig import Provider, TokenAttributes
from tiphys.kubelet.images.providerexec import ProviderAnswer, ProviderFailure
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.volumes.failures import MountFailure
from tiphys.runtime.clock import Clock
from tiphys.runtime.expiring import Expiring, SharedCalls

log = logging.getLogger(__name__)

_MOST_REMEMBERED = 4096
_GLOBAL = "<global>"

Ask = Callable[[Provider, str, str, Mapping[str, str]], Awaitable[ProviderAnswer]]
"""Provider, image, token and annotations to the answer."""
AccountOf = Callable[[str, str], Awaitable[Object]]
"""The ServiceAccount of a namespace and name."""
TokenOf = Callable[[Pod, str, str], Awaitable[str]]
"""A token of a pod's service account: the pod, the audience, and the account's uid."""
_Identity = tuple[Any, ...]


class CredentialProviders:
    """All that are configured. ``close`` when nobody asks any more."""

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        clock: Clock,
        figures: ImageFigures,
        account: AccountOf,
        token: TokenOf,
        folder: str = "",
        ask: Ask | None = None,
    ) -> None:
        """``folder`` has the programs; ``ask`` stands for calling them."""
        self._folder = folder
        self._figures = figures
        call = ask or self._call
        self._plugins = [
            _Plugin(provider, clock=clock, ask=call, account=account, token=token) for provider in providers
        ]

    async def rings(self, image: str, pod: Pod) -> Keyring:
        """The credentials of all that are asked for the image, as one keyring. No program's failure is another's."""
        ring = Keyring()
        for entries in await asyncio.gather(*(plugin.entries(image, pod) for plugin in self._plugins)):
            ring.add(entries)
        return ring

    def close(self) -> None:
        for plugin in self._plugins:
            plugin.close()

    async def _call(self, provider: Provider, image: str, token: str, annotations: Mapping[str, str]) -> ProviderAnswer:
        started, failed = time.monotonic(), True
        try:
            answer = await providerexec.ask(provider, self._folder, image, token, annotations)
            failed = False
            return answer
        finally:
            self._figures.asked(provider.name, time.monotonic() - started, failed=failed)


class _Plugin:
    def __init__(self, provider: Provider, *, clock: Clock, ask: Ask, account: AccountOf, token: TokenOf) -> None:
        self._provider = provider
        self._clock = clock
        self._ask = ask
        self._account = account
        self._token = token
        self._cache: Expiring[tuple[str, _Identity], Mapping[str, Credential]] = Expiring(_MOST_REMEMBERED)
        self._calls: SharedCalls[_Identity, ProviderAnswer] = SharedCalls()

    def close(self) -> None:
        self._calls.cancel()

    async def entries(self, image: str, pod: Pod) -> Mapping[str, Credential]:
        """By location; empty if this program has nothing to say, or fails."""
        if not any(matches(pattern, image) for pattern in self._provider.match_images):
            return {}
        try:
            return await self._entries(image, pod)
        except (ProviderFailure, MountFailure, errors.ApiError, ConnectionError, TimeoutError) as error:
            who = pods.describe(pod)
            name = self._provider.name
            log.error("credential provider %s: no credentials for image %s of pod %s: %s", name, image, who, error)
            return {}

    async def _entries(self, image: str, pod: Pod) -> Mapping[str, Credential]:
        tokens = self._provider.tokens
        name = pods.spec_of(pod).get("serviceAccountName") or ""
        if tokens is None or not name:
            if tokens is not None and tokens.required_account:
                return {}
            return await self._answered(image, "", {}, ())
        account = await self._account(pods.namespace_of(pod), name)
        meta = account["metadata"]
        annotations = wanted_annotations(tokens, meta.get("annotations") or {})
        if annotations is None:
            log.debug("credential provider %s is not asked for pod %s", self._provider.name, pods.describe(pod))
            return {}
        whose = Coordinates(meta.get("uid", ""), pods.namespace_of(pod), name)
        try:
            token = await self._token(pod, tokens.audience, whose.uid)
        except MountFailure as error:
            raise ProviderFailure(f"failed to get service account token: {error}") from error
        identity: _Identity = (whose, tuple(sorted(annotations.items())))
        if tokens.cache_type == "Token":
            identity += (_digest(token),)
        entries = await self._answered(image, token, annotations, identity)
        return {location: replace(credential, account=whose) for location, credential in entries.items()}

    async def _answered(
        self, image: str, token: str, annotations: Mapping[str, str], identity: _Identity
    ) -> Mapping[str, Credential]:
        """What is remembered for whoever asks, or what the program says. Raises ``ProviderFailure``."""
        now = self._clock.monotonic()
        bases = {"Image": image, "Registry": image.partition("/")[0], "Global": _GLOBAL}
        for base in bases.values():
            if (remembered := self._cache.get((base, identity), now)) is not None:
                return remembered[0]
        same = (image, _digest(token), tuple(sorted(annotations.items())))
        answer = await self._calls.answer(same, lambda: self._one_call(image, token, annotations))
        self._check_echo(token, answer)
        providerexec.check_cache_key(answer.cache_key)
        seconds = answer.cache_seconds
        if seconds is None:
            seconds = self._provider.cache_seconds or 0.0
        if seconds > 0:
            until = self._clock.monotonic() + seconds
            self._cache.put((bases[answer.cache_key], identity), answer.entries, until)
        return answer.entries

    def _check_echo(self, token: str, answer: ProviderAnswer) -> None:
        """Raises ``ProviderFailure`` if the token itself is a password, and may be remembered for other pods."""
        tokens = self._provider.tokens
        if not token or tokens is None or tokens.cache_type == "Token":
            return
        if any(credential.password == token for credential in answer.entries.values()):
            raise ProviderFailure(
                "credential provider plugin returned the service account token as the password which is not allowed"
                " when service account cache type is not set to 'Token'"
            )

    async def _one_call(self, image: str, token: str, annotations: Mapping[str, str]) -> ProviderAnswer:
        return await self._ask(self._provider, image, token, annotations)


def wanted_annotations(tokens: TokenAttributes, given: Mapping[str, str]) -> dict[str, str] | None:
    """The account's annotations that the program gets; None if one is missing without which it is not asked."""
    if any(key not in given for key in tokens.required):
        return None
    return {key: given[key] for key in (*tokens.required, *tokens.optional) if key in given}


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest() if token else ""
