"""Makes sure that a container's image is on the node: pull policy, credentials, back-off, and the events of it all.

Source: https://kubernetes.io/docs/concepts/containers/images/
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from tiphys.api.gotext import quote
from tiphys.kubelet.container.image_names import ImageNameError, parse_image, with_default_tag
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.recorder import PodEvents
from tiphys.kubelet.runtime.service import ImageService, RuntimeFailure, SandboxConfig
from tiphys.runtime.backoff import KeyedBackoff
from tiphys.runtime.clock import Clock
from tiphys.runtime.durations import MILLISECOND, seconds_text

Auth = dict[str, str]


class ImageFailure(Exception):
    """There is no image to start the container from. ``reason`` is the waiting state's (ErrImagePull, …)."""

    def __init__(self, reason: str, message: str, retry_after: float = 0.0) -> None:
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        super().__init__(f"{reason}: {message}")


class ImageManager:
    """``parallel`` bounds the pulls at one time; 1 is upstream's default (serialized)."""

    def __init__(self, service: ImageService, clock: Clock, events: PodEvents, parallel: int = 1) -> None:
        self._service = service
        self._clock = clock
        self._events = events
        self._backoff = KeyedBackoff(10.0, 300.0)
        self._last_failure: dict[str, str] = {}
        self._failed_at: dict[str, float] = {}
        self._slots = asyncio.Semaphore(parallel)

    async def ensure(
        self, pod: Pod, container: ContainerSpec, secrets: Iterable[dict[str, Any]], sandbox_config: SandboxConfig
    ) -> str:
        """The reference of the image to start the container from. Raises ``ImageFailure``."""
        wanted = container.get("image", "")
        policy = container.get("imagePullPolicy") or default_policy(wanted)
        try:
            image = with_default_tag(wanted)
        except ImageNameError as error:
            message = f"Failed to apply default image tag {quote(wanted)}: {error}"
            self._events.container(pod, container["name"], "Warning", "InspectFailed", message)
            raise ImageFailure("InvalidImageName", message) from error
        if policy != "Always":
            present = await self._present(pod, container, image)
            if present:
                message = f'Container image "{wanted}" already present on machine and can be accessed by the pod'
                self._events.container(pod, container["name"], "Normal", "Pulled", message)
                return present
            if policy == "Never":
                message = f'Container image "{wanted}" is not present with pull policy of Never'
                self._events.container(pod, container["name"], "Warning", "ErrImageNeverPull", message)
                raise ImageFailure("ErrImageNeverPull", message)
        return await self._pull(pod, container, image, credentials(image, secrets), sandbox_config)

    async def _present(self, pod: Pod, container: ContainerSpec, image: str) -> str:
        try:
            status = await self._service.image_status(image)
        except RuntimeFailure as error:
            message = f'Failed to inspect image "": {error}'
            self._events.container(pod, container["name"], "Warning", "InspectFailed", message)
            raise ImageFailure("ImageInspectError", message) from error
        return status.id if status else ""

    async def _pull(
        self, pod: Pod, container: ContainerSpec, image: str, auths: list[Auth], sandbox_config: SandboxConfig
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
        self._events.container(pod, name, "Normal", "Pulling", f'Pulling image "{wanted}"')
        async with self._slots:
            began = self._clock.now()
            try:
                reference = await self._try_each(image, auths, sandbox_config)
            except RuntimeFailure as error:
                message = f'Failed to pull image "{wanted}": {error.raw}'
                self._events.container(pod, name, "Warning", "Failed", message)
                self._failed_at[key] = self._clock.now()
                self._backoff.next(key, self._failed_at[key], self._failed_at[key])
                failure = _explain(wanted, error)
                self._last_failure[key] = f"{failure.reason}: {failure.message}"
                raise failure from error
        size = await self._size(image)
        took = seconds_text(self._clock.now() - began, MILLISECOND)
        waited = seconds_text(self._clock.now() - now, MILLISECOND)
        message = (
            f'Successfully pulled image "{wanted}" in {took} ({waited} including waiting). Image size: {size} bytes.'
        )
        self._events.container(pod, name, "Normal", "Pulled", message)
        self._last_failure.pop(key, None)
        return reference

    async def _try_each(self, image: str, auths: list[Auth], sandbox_config: SandboxConfig) -> str:
        """Pull with each credential that fits, or with none; the last failure counts."""
        failure: RuntimeFailure | None = None
        for auth in auths or [{}]:
            try:
                return await self._service.pull_image(image, auth, sandbox_config)
            except RuntimeFailure as error:
                failure = error
        assert failure is not None
        raise failure

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


def registry_of(image: str) -> str:
    """The registry that an image's name leads to."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "index.docker.io"


def credentials(image: str, secrets: Iterable[Mapping[str, Any]]) -> list[Auth]:
    """The credentials of pull secrets that fit an image, those for the longest path first."""
    registry = registry_of(image)
    path = image if image.startswith(f"{registry}/") else f"{registry}/{image}"
    fitting: list[tuple[int, Auth]] = []
    for secret in secrets:
        for place, entry in _entries(secret):
            location = place if "://" in place else f"https://{place}"
            parts = urlsplit(location)
            host = "index.docker.io" if parts.netloc in ("docker.io", "registry-1.docker.io") else parts.netloc
            prefix = host + ("" if parts.path.rstrip("/") in ("", "/v1", "/v2") else parts.path.rstrip("/"))
            if _host_fits(host, registry) and (path == prefix or path.startswith(f"{prefix}/") or "*" in host):
                fitting.append((len(prefix), _auth(entry)))
    return [auth for _, auth in sorted(fitting, key=lambda pair: -pair[0])]


def _host_fits(pattern: str, host: str) -> bool:
    want, have = pattern.split("."), host.split(".")
    return len(want) == len(have) and all(w in ("*", h) for w, h in zip(want, have, strict=True))


def _entries(secret: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    data = secret.get("data") or {}
    try:
        if text := data.get(".dockerconfigjson"):
            return list((json.loads(base64.b64decode(text)).get("auths") or {}).items())
        if text := data.get(".dockercfg"):
            return list(json.loads(base64.b64decode(text)).items())
    except ValueError:
        return []
    return []


def _auth(entry: Mapping[str, Any]) -> Auth:
    auth = {
        "username": entry.get("username", ""),
        "password": entry.get("password", ""),
        "identity_token": entry.get("identitytoken", ""),
        "registry_token": entry.get("registrytoken", ""),
    }
    if text := entry.get("auth"):
        user, _, password = base64.b64decode(text).decode().partition(":")
        auth["username"], auth["password"] = user, password.rstrip("\0")
    return {key: value for key, value in auth.items() if value}
