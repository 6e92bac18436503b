"""Approves kubelets' client certificates, if the requester may have them by RBAC.

Source: https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/#approval
"""

from __future__ import annotations

from tiphys.api.credentials import subject_of
from tiphys.api.object import Object
from tiphys.client.resources import CERTIFICATE_SIGNING_REQUESTS, SUBJECT_ACCESS_REVIEWS
from tiphys.controlkit.objects import (
    copy,
    status_of,
    timestamp,
)
from tiphys.controlkit.queue import RateLimiter
from tiphys.controlkit.retry import TryAgain
from tiphys.controllers.access.certificates import requests
from tiphys.controllers.context import ControllerContext


class CertificateApprovingController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._requests = context.informers.informer(CERTIFICATE_SIGNING_REQUESTS)
        limiter: RateLimiter[str] = RateLimiter(context.clock, base=0.2)
        self._controller = context.controller("certificate", self.reconcile, workers=5, limiter=limiter)
        self._controller.watches(self._requests)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> None:
        """Approve a kubelet's request for its client certificate.

        Raises ``TryAgain`` if the requester may not have it.
        """
        request = self._requests.store.get("", key)
        if request is None or request["spec"]["signerName"] != requests.KUBELET_CLIENT:
            return
        decided = requests.has_condition(request, "Approved") or requests.has_condition(request, "Denied")
        if decided or status_of(request).get("certificate"):
            return
        try:
            csr = requests.parse(request)
            requests.check_kubelet_client(csr, frozenset(request["spec"].get("usages") or ()))
        except requests.BadRequest:
            return
        own = request["spec"].get("username") == subject_of(csr.subject).common_name
        if own and await self._may(request, "selfnodeclient"):
            await self._approve(request, "Auto approving self kubelet client certificate after SubjectAccessReview.")
        elif await self._may(request, "nodeclient"):
            await self._approve(request, "Auto approving kubelet client certificate after SubjectAccessReview.")
        else:
            raise TryAgain(f'recognized csr "{key}" but subject access review was not approved')

    async def _may(self, request: Object, subresource: str) -> bool:
        """Ask the API server whether the requester may do this, by a SubjectAccessReview."""
        spec = request["spec"]
        attributes = {
            "group": "certificates.k8s.io",
            "resource": "certificatesigningrequests",
            "verb": "create",
            "subresource": subresource,
            "version": "*",
        }
        review: Object = {
            "kind": "SubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "spec": {
                "user": spec.get("username", ""),
                "uid": spec.get("uid", ""),
                "groups": spec.get("groups") or [],
                "extra": spec.get("extra") or {},
                "resourceAttributes": attributes,
            },
        }
        answer = await self._client.create(SUBJECT_ACCESS_REVIEWS, review)
        return bool((answer.get("status") or {}).get("allowed"))

    async def _approve(self, request: Object, message: str) -> None:
        wanted = copy(request)
        now = timestamp(self._clock.now())
        wanted.setdefault("status", {}).setdefault("conditions", []).append(
            {
                "type": "Approved",
                "status": "True",
                "reason": "AutoApproved",
                "message": message,
                "lastUpdateTime": now,
                "lastTransitionTime": now,
            }
        )
        await self._client.update(CERTIFICATE_SIGNING_REQUESTS, wanted, subresource="approval")
