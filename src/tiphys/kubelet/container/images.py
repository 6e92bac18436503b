"""Makes sure that a container's image is on the node: pull policy, credentials, back-off, and the events of it all.

Source: https://kubernetes.io/docs/concepts/containers/images/
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tiphys.api.gotext import quote
from tiphys.client.throttle import RequestRate, TokenBucket
from tiphys.kubelet.container.image_names import ImageNameError, parse_image, with_default_tag
from tiphys.kubelet.images.credentials import ImageCredentials
from tiphys.kubelet.images.figures import ImageFigures
from tiphys.kubelet.images.keyring import Credential, KeyringError, PodCredentials, of_pod
from tiphys.kubelet.images.pulls import PullManager
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.recorder import PodEvents
from tiphys.kubelet.runtime.service import ImageService, RuntimeFailure, SandboxConfig
from tiphys.runtime.backoff import KeyedBackoff
from tiphys.runtime.clock import Clock
from tiphys.runtime.durations import MILLISECOND, seconds_text

Credentials = Callable[[], Awaitable[list[Credential]]]


class ImageFailure(Exception):
    """There is no image to start the container from. ``reason`` is the waiting state's (ErrImagePull, …)."""

    def __init__(self, reason: str, message: str, retry_after: float = 0.0) -> None:
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        super().__init__(f"{reason}: {message}")


class PullFailure(RuntimeFailure):
    """The kubelet's own words, or several failures of the runtime together."""

    @property
    def raw(self) -> str:
        return str(self)


class ImageManager:
    """``parallel`` bounds the pulls at one time, None: nothing does; ``rate`` how many begin in a second."""

    def __init__(
        self,
        service: ImageService,
        clock: Clock,
        events: PodEvents,
        *,
        pulls: PullManager,
        credentials: ImageCredentials,
        figures: ImageFigures,
        parallel: int | None = 1,
        rate: RequestRate | None = None,
    ) -> None:
        self._service = service
        self._clock = clock
        self._events = events
        self._pulls = pulls
        self._credentials = credentials
        self._figures = figures
        self._backoff = KeyedBackoff(10.0, 300.0)
        self._last_failure: dict[str, str] = {}
        self._failed_at: dict[str, float] = {}
        self._slots = asyncio.Semaphore(parallel) if parallel is not None else contextlib.nullcontext()
        self._rate = TokenBucket(rate, clock.monotonic()) if rate is not None else None

    async def ensure(
        self, pod: Pod, container: ContainerSpec, secrets: Sequence[dict[str, Any]], sandbox_config: SandboxConfig
    ) -> str:
        """The reference of the image to start the container from. Raises ``ImageFailure``."""
        wanted = container.get("image", "")
        policy = container.get("imagePullPolicy") or default_policy(wanted)
        try:
            image = with_default_tag(wanted)
            repository = parse_image(image).name
        except ImageNameError as error:
            message = f"Failed to apply default image tag {quote(wanted)}: {error}"
            self._events.container(pod, container["name"], "Warning", "InspectFailed", message)
            raise ImageFailure("InvalidImageName", message) from error
        known: list[list[Credential]] = []

        async def credentials() -> list[Credential]:
            """Asked for once, and only if they matter."""
            if not known:
                known.append(await self._credentials.fitting(repository, pod, secrets))
            return known[0]

        present: bool | None = None
        pulled: bool | None = None
        try:
            if policy != "Always":
                reference = await self._present(pod, container, image)
                present = bool(reference)
                if reference:
                    pulled = await self._must_pull(wanted, reference, credentials)
                    if not pulled:
                        message = (
                            f'Container image "{wanted}" already present on machine and can be accessed by the pod'
                        )
                        self._events.container(pod, container["name"], "Normal", "Pulled", message)
                        return reference
                if policy == "Never":
                    raise self._not_present(pod, container)
            pulled = True
            return await self._pull(pod, container, image, credentials, sandbox_config)
        finally:
            self._figures.requested(policy, present=present, pulled=pulled)

    async def _must_pull(self, wanted: str, reference: str, credentials: Credentials) -> bool:
        """Whether the pod must show that it may use an image that is here. Raises ``ImageFailure``."""

        async def of_this_pod() -> PodCredentials:
            return of_pod(await credentials())

        try:
            return await self._pulls.must_pull(wanted, reference, of_this_pod)
        except KeyringError as error:
            raise ImageFailure(str(error), str(error)) from error

    def _not_present(self, pod: Pod, container: ContainerSpec) -> ImageFailure:
        """It is not there, or the pod may not know that it is."""
        message = f'Container image "{container.get("image", "")}" is not present with pull policy of Never'
        self._events.container(pod, container["name"], "Warning", "ErrImageNeverPull", message)
        return ImageFailure("ErrImageNeverPull", message)

    async def _present(self, pod: Pod, container: ContainerSpec, image: str) -> str:
        try:
            status = await self._service.image_status(image)
        except RuntimeFailure as error:
            message = f'Failed to inspect image "": {error}'
            self._events.container(pod, container["name"], "Warning", "InspectFailed", message)
            raise ImageFailure("ImageInspectError", message) from error
        return status.id if status else ""

    async def _pull(
        self, pod: Pod, container: ContainerSpec, image: str, credentials: Credentials, sandbox_config: SandboxConfig
    ) -> str:
        """Pull an image, with back-off and events; returns its reference. Raises ``ImageFailure``."""
        wanted, name = container.get("image", ""), container["name"]
        key = f"{pods.uid_of(pod)}_{wanted}"
        now = self._clock.now()
        if (left := self._backoff.remaining(key, self._failed_at.get(key, 0.0), now)) > 0:
            message = f'Back-off pulling image "{wanted}"'
            self._events.container(pod, name, "Normal", "BackOff", message)
            if before := self._last_failure.get(key):
                message = f"{message}: {before}"
            raise ImageFailure("ImagePullBackOff", message, left)
        try:
            tried = await credentials()
            self._pulls.begin(wanted)
        except KeyringError as error:
            raise ImageFailure(str(error), str(error)) from error
        except OSError as error:
            message = f"Failed to record image pull intent for container image {quote(wanted)}: {error}"
            raise ImageFailure("ErrImagePull", message) from error
        self._events.container(pod, name, "Normal", "Pulling", f'Pulling image "{wanted}"')
        try:
            async with self._slots:
                began = self._clock.now()
                reference, used = await self._try_each(image, tried, sandbox_config)
        except RuntimeFailure as error:
            self._pulls.failed(wanted)
            message = f'Failed to pull image "{wanted}": {error.raw}'
            self._events.container(pod, name, "Warning", "Failed", message)
            self._failed_at[key] = self._clock.now()
            self._backoff.next(key, self._failed_at[key], self._failed_at[key])
            failure = _explain(wanted, error)
            self._last_failure[key] = f"{failure.reason}: {failure.message}"
            raise failure from error
        except BaseException:
            self._pulls.broken_off(wanted)
            raise
        self._pulls.pulled(wanted, reference, used)
        size = await self._size(image)
        took = seconds_text(self._clock.now() - began, MILLISECOND)
        waited = seconds_text(self._clock.now() - now, MILLISECOND)
        message = (
            f'Successfully pulled image "{wanted}" in {took} ({waited} including waiting). Image size: {size} bytes.'
        )
        self._events.container(pod, name, "Normal", "Pulled", message)
        self._last_failure.pop(key, None)
        return reference

    async def _try_each(
        self, image: str, credentials: list[Credential], sandbox_config: SandboxConfig
    ) -> tuple[str, Credential | None]:
        """Pull with each credential that fits, or with none; returns the one that did. Raises ``RuntimeFailure``."""
        if self._rate is not None and not self._rate.try_take(self._clock.monotonic()):
            raise PullFailure("pull QPS exceeded")
        if not credentials:
            return await self._service.pull_image(image, {}, sandbox_config), None
        failures: list[RuntimeFailure] = []
        for credential in credentials:
            try:
                return await self._service.pull_image(image, credential.auth, sandbox_config), credential
            except RuntimeFailure as error:
                failures.append(error)
        texts = list(dict.fromkeys(failure.raw for failure in failures))
        raise failures[0] if len(texts) == 1 else PullFailure(f"[{', '.join(texts)}]")

    async def _size(self, image: str) -> int:
        try:
            status = await self._service.image_status(image)
        except RuntimeFailure:
            return 0
        return status.size if status else 0

    def release(self, pod_uid: str) -> None:
        self._backoff.forget(pod_uid)
        for table in (self._last_failure, self._failed_at):
            for key in [key for key in table if key.startswith(pod_uid)]:
                del table[key]


def _explain(image: str, error: RuntimeFailure) -> ImageFailure:
    text = str(error)
    for reason, words in (
        ("RegistryUnavailable", "the registry is unavailable"),
        ("SignatureValidationFailed", "the signature validation failed"),
    ):
        if text.startswith(reason):
            rest = text.removeprefix(reason)
            return ImageFailure(reason, f"image pull failed for {image} because {words}{rest}")
    return ImageFailure("ErrImagePull", error.raw)


def default_policy(image: str) -> str:
    """What the API server would have set: for the newest of an image, whatever that is, the registry is asked."""
    try:
        parsed = parse_image(image)
    except ImageNameError:
        return "IfNotPresent"
    return "Always" if not parsed.digest and parsed.tag in ("", "latest") else "IfNotPresent"
