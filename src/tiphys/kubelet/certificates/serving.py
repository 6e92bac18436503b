"""The kubelet's serving certificate, asked of the cluster (``serverTLSBootstrap``) and renewed before it ends.

Nobody can say for a node which names are its own, so no controller approves these requests: an administrator does
(``kubectl certificate approve``), or an approver of the user's. Until the first is signed, handshakes with the
kubelet's port fail, as upstream's do. Source:
https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-certs/#kubelet-serving-certs
"""

from __future__ import annotations

import ipaddress
import logging
import random
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tiphys.client.errors import ApiError
from tiphys.client.rest import Client
from tiphys.kubelet.certificates import pairs
from tiphys.kubelet.certificates.requests import (
    KUBELET_SERVING,
    RequestDenied,
    ask,
    private_pem,
    request_for,
    signing_request,
)
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

STEM = "kubelet-server"
_BETWEEN, _LONGEST_SLEEP = 30.0, 3600.0


class ServingCertificate:
    """Keeps the pair in ``folder`` valid for ``names`` (the node's name, and its addresses).

    ``show`` is called with the file of each new pair, and with the one that is there already.
    """

    def __init__(
        self,
        *,
        client: Client,
        folder: Path,
        names: tuple[str, ...],
        show: Callable[[Path], None],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._client, self._folder, self._names = client, folder, names
        self._show, self._clock, self._rng = show, clock, rng

    async def run(self) -> None:
        """Ask, show and wait, until cancelled."""
        path = self._folder / pairs.current_name(STEM)
        share = pairs.share_of_life(self._rng)
        shown: x509.Certificate | None = None
        while True:
            certificate = pairs.read(path)
            if certificate is not None and certificate != shown and self._fits(certificate):
                self._show(path)
                shown = certificate
            left = 0.0
            if certificate is not None and self._fits(certificate):
                left = pairs.due_at(certificate, share) - self._clock.now()
            if left > 0:
                await self._clock.sleep(min(left, _LONGEST_SLEEP))
                continue
            try:
                await self._renew()
                share = pairs.share_of_life(self._rng)
            except (ApiError, RequestDenied, ConnectionError, TimeoutError) as error:
                log.warning("cannot have a serving certificate signed: %s", error)
                await self._clock.sleep(_BETWEEN)
                continue
            if (made := pairs.read(path)) is not None and made != shown:
                self._show(path)
                shown = made
            await self._clock.sleep(_BETWEEN)  # also if what is signed ends too soon to be of use

    async def _renew(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        request = signing_request(f"system:node:{self._names[0]}", self._names, key)
        certificate = await ask(self._client, request_for(request, KUBELET_SERVING, "server auth"))
        pairs.store(self._folder, STEM, certificate + private_pem(key))

    def _fits(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate is in force, and for the names that the node has now."""
        begins, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
        if not begins <= self._clock.now() < ends:
            return False
        try:
            shown = set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        except x509.ExtensionNotFound:
            return False
        name, *addresses = self._names
        return shown == {x509.DNSName(name), *(x509.IPAddress(ipaddress.ip_address(one)) for one in addresses)}
