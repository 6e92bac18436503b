"""ImagePolicyWebhook: a server of the administrator's decides which images run.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#imagepolicywebhook
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import orjson

from tiphys.api.object import Object
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.webhooks.reviews import ReviewFailed, ReviewServer
from tiphys.runtime.clock import Clock
from tiphys.runtime.expiring import Expiring

_API_VERSION = "imagepolicy.k8s.io/v1alpha1"
_MARK = ".image-policy.k8s.io/"
_AUDIT = "imagepolicywebhook" + _MARK
_FAILED_OPEN = "alpha.image-policy.k8s.io/failed-open"


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """Times in seconds: how long an answer is believed, and how long to wait before a second try."""

    kubeconfig: Path
    allow_seconds: float = 300.0
    deny_seconds: float = 30.0
    retry_seconds: float = 0.5
    default_allow: bool = False
    """Whether images run if the server cannot be asked."""


class ImagePolicyWebhook(Plugin):
    resources = frozenset((("", "pods"),))
    operations = frozenset((CREATE, UPDATE))
    subresources = frozenset(("", "ephemeralcontainers"))

    def __init__(self, policy: ImagePolicy, clock: Clock) -> None:
        """Raises ``KubeconfigError``."""
        self._policy = policy
        self._clock = clock
        self._server = ReviewServer(policy.kubeconfig, "kube-apiserver-admission", clock, pause=policy.retry_seconds)
        self._known: Expiring[bytes, Object] = Expiring(1024)

    async def validate(self, attributes: Attributes) -> None:
        review = _review(attributes)
        try:
            status = await self._status(review)
        except ReviewFailed as error:
            self._failed(attributes, error)
            return
        for name, value in (status.get("auditAnnotations") or {}).items():
            attributes.annotate(_AUDIT + name, str(value))
        if status.get("allowed"):
            return
        if reason := status.get("reason"):
            raise forbid(attributes, f"image policy webhook backend denied one or more images: {reason}")
        raise forbid(attributes, "one or more images rejected by webhook backend")

    async def _status(self, review: Object) -> Object:
        key = hashlib.sha256(orjson.dumps(review["spec"], option=orjson.OPT_SORT_KEYS)).digest()
        known = self._known.get(key, self._clock.monotonic())
        if known is not None:
            return known[0]
        status: Object = (await self._server.ask(review)).get("status") or {}
        policy = self._policy
        seconds = policy.allow_seconds if status.get("allowed") else policy.deny_seconds
        self._known.put(key, status, self._clock.monotonic() + seconds)
        return status

    def _failed(self, attributes: Attributes, error: ReviewFailed) -> None:
        if not self._policy.default_allow:
            raise forbid(attributes, error) from error
        attributes.annotate(_AUDIT + "failed-open", "true")
        meta = attributes.new()["metadata"]
        meta["annotations"] = {**(meta.get("annotations") or {}), _FAILED_OPEN: "true"}

    async def close(self) -> None:
        await self._server.close()


def _review(attributes: Attributes) -> Object:
    pod = attributes.new()
    kinds = ("ephemeralContainers",) if attributes.subresource else ("containers", "initContainers")
    spec: Object = {}
    containers = [{"image": one.get("image", "")} for kind in kinds for one in pod["spec"].get(kind) or ()]
    if containers:
        spec["containers"] = containers
    annotations = pod["metadata"].get("annotations") or {}
    if marked := {name: value for name, value in annotations.items() if _MARK in name}:
        spec["annotations"] = marked
    if attributes.namespace:
        spec["namespace"] = attributes.namespace
    return {
        "kind": "ImageReview",
        "apiVersion": _API_VERSION,
        "metadata": {},
        "spec": spec,
        "status": {"allowed": False},
    }
