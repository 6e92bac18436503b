"""Removes certificate signing requests that have served their purpose, or that nobody has answered.

Source: https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#request-signing-process
"""

from __future__ import annotations

import base64
import binascii
import logging

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import CERTIFICATE_SIGNING_REQUESTS
from tiphys.controlkit.objects import (
    name_of,
    parse_time,
    status_of,
)
from tiphys.controllers.context import ControllerContext

log = logging.getLogger(__name__)

PERIOD = 3600.0
DECIDED = 3600.0
PENDING = 24 * 3600.0


def is_over(request: Object, now: float) -> bool:
    """Whether the request can be deleted."""
    conditions = status_of(request).get("conditions") or []
    if not conditions:
        created = parse_time(request["metadata"].get("creationTimestamp"))
        return created is not None and now - created > PENDING
    certificate = status_of(request).get("certificate")
    for condition in conditions:
        updated = parse_time(condition.get("lastUpdateTime"))
        age = now - updated if updated is not None else 0.0
        if condition["type"] in ("Denied", "Failed") and age > DECIDED:
            return True
        if condition["type"] == "Approved":
            if age > (DECIDED if certificate else PENDING):
                return True
            if certificate and _has_expired(certificate, now):
                return True
    return False


def _has_expired(certificate: str, now: float) -> bool:
    from cryptography import x509

    try:
        parsed = x509.load_pem_x509_certificate(base64.b64decode(certificate))
    except (binascii.Error, ValueError):
        return False
    return now > parsed.not_valid_after_utc.timestamp()


class CertificateCleaner:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._requests = context.informers.informer(CERTIFICATE_SIGNING_REQUESTS)

    async def run(self) -> None:
        await self._requests.wait_synced()
        while True:
            for request in self._requests.store.list():
                if is_over(request, self._clock.now()):
                    await self._delete(name_of(request))
            await self._clock.sleep(PERIOD)

    async def _delete(self, name: str) -> None:
        try:
            await self._client.delete(CERTIFICATE_SIGNING_REQUESTS, name)
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            log.warning("cannot delete certificate signing request %s: %s", name, error)
