"""Service account tokens for pods: requested by TokenRequest, kept while they are good, renewed before they end.

A token is renewed when four fifths of its life, or a day, are over. Source:
https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiphys.client import errors
from tiphys.client.resources import SERVICE_ACCOUNTS
from tiphys.client.rest import Client
from tiphys.controlkit.objects import parse_time
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.volumes.failures import MountFailure
from tiphys.kubelet.volumes.payloads import TokenSpec
from tiphys.runtime.clock import Clock

_MAX_AGE = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Token:
    """Times are seconds since the Unix epoch."""

    text: str
    issued: float
    expires: float

    def due(self, now: float) -> bool:
        return now > min(self.issued + 0.8 * (self.expires - self.issued), self.issued + _MAX_AGE)


class TokenManager:
    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._tokens: dict[tuple[str, TokenSpec], Token] = {}

    async def token(self, pod: Pod, spec: TokenSpec) -> str:
        """A good token of the pod's service account. Raises ``MountFailure``."""
        return (await self.issued(pod, spec)).text

    async def issued(self, pod: Pod, spec: TokenSpec) -> Token:
        """The same, with the time at which it ends. Raises ``MountFailure``."""
        key = (pods.uid_of(pod), spec)
        held = self._tokens.get(key)
        now = self._clock.now()
        if held is not None and not held.due(now):
            return held
        try:
            held = self._tokens[key] = await self._request(pod, spec)
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            if held is not None and held.expires > now:
                return held
            reason = error.message if isinstance(error, errors.ApiError) else str(error)
            raise MountFailure(f"failed to fetch token: {reason}") from error
        return held

    async def _request(self, pod: Pod, spec: TokenSpec) -> Token:
        """Request a token bound to the pod. Raises ``ApiError`` and ``ConnectionError``."""
        account = pod["spec"].get("serviceAccountName") or "default"
        asked: dict[str, Any] = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            **({"metadata": {"uid": spec.account}} if spec.account else {}),
            "spec": {
                "audiences": [spec.audience] if spec.audience else [],
                "expirationSeconds": spec.expiration,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": pods.name_of(pod),
                    "uid": pods.uid_of(pod),
                },
            },
        }
        answer = await self._client.create(
            SERVICE_ACCOUNTS, asked, namespace=pods.namespace_of(pod), name=account, subresource="token"
        )
        status = answer["status"]
        expires = parse_time(status["expirationTimestamp"])
        now = self._clock.now()
        return Token(status["token"], now, expires if expires is not None else now + spec.expiration)

    def next_renewal(self, pod_uid: str) -> float | None:
        """When (Unix seconds) the first token of a pod is due for renewal."""
        times = [
            min(t.issued + 0.8 * (t.expires - t.issued), t.issued + _MAX_AGE)
            for (uid, _), t in self._tokens.items()
            if uid == pod_uid
        ]
        return min(times, default=None)

    def release(self, pod_uid: str) -> None:
        for key in [key for key in self._tokens if key[0] == pod_uid]:
            del self._tokens[key]
