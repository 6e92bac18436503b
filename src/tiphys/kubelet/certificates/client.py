"""The kubelet's client certificate: the first by a bootstrap token, each next one by the one before.

It is kept as ``pairs`` says, and the kubeconfig names the link to the newest. Source:
https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/#certificate-rotation
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tiphys.client.errors import ApiError
from tiphys.client.kubeconfig import KubeconfigError, connected
from tiphys.client.rest import Client
from tiphys.kubelet.certificates import pairs
from tiphys.kubelet.certificates.requests import (
    KUBELET_CLIENT,
    RequestDenied,
    ask,
    private_pem,
    request_for,
    signing_request,
)
from tiphys.runtime import yamltext
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import CannotStart

log = logging.getLogger(__name__)

STEM = "kubelet-client"
CURRENT = pairs.current_name(STEM)
_ASK_AGAIN, _BETWEEN, _LONGEST_SLEEP = 1.0, 30.0, 3600.0


async def ensure_client(
    *, bootstrap: Path, kubeconfig: Path, folder: Path, node_name: str, now: datetime | None = None
) -> None:
    """Have a kubeconfig with a certificate that is valid; asks for one by the bootstrap kubeconfig until it is given.

    Raises ``CannotStart`` if neither is there, and ``RequestDenied``.
    """
    if usable(kubeconfig, now or datetime.now(UTC)):
        return
    _need(bootstrap, kubeconfig)
    while True:
        try:
            async with connected(bootstrap, "kubelet") as client:
                await renew(client, folder, node_name)
            break
        except (ApiError, KubeconfigError, ConnectionError, TimeoutError) as error:
            log.warning("cannot ask for a client certificate yet: %s", error)
            await asyncio.sleep(_ASK_AGAIN)
    pairs.write(kubeconfig, _kubeconfig(bootstrap, folder / CURRENT))


async def renew(client: Client, folder: Path, node_name: str) -> None:
    """Have a new certificate signed, and let the link lead to it. Raises ``RequestDenied``."""
    key = ec.generate_private_key(ec.SECP256R1())
    user = f"system:node:{node_name}"
    certificate = await ask(client, request_for(signing_request(user, (), key), KUBELET_CLIENT, "client auth"))
    pairs.store(folder, STEM, certificate + private_pem(key))


def _need(bootstrap: Path, kubeconfig: Path) -> None:
    if not bootstrap.exists():
        raise CannotStart(
            f"{kubeconfig} holds no valid certificate, and --bootstrap-kubeconfig {bootstrap} is missing: join the node"
            " again with a new token, or have its kubeconfig renewed on a control plane"
        )


async def keep_renewed(
    client: Client, kubeconfig: Path, folder: Path, node_name: str, clock: Clock, rng: random.Random
) -> None:
    """Renew the certificate in use each time that it is due. What is used is the file that the kubeconfig names.

    A certificate that stands in the kubeconfig itself, as kubeadm writes it for a control plane, is replaced at once,
    and the kubeconfig names the pair from then on.
    """
    share, pair = pairs.share_of_life(rng), pairs.current_path(folder, STEM)
    while True:
        certificate = current(kubeconfig) if _names(kubeconfig, pair) else None
        due = pairs.due_at(certificate, share) if certificate is not None else clock.now()
        if (left := due - clock.now()) > 0:
            await clock.sleep(min(left, _LONGEST_SLEEP))
            continue
        try:
            await renew(client, folder, node_name)
            share = pairs.share_of_life(rng)
            if not _names(kubeconfig, pair):
                _let_name(kubeconfig, pair)
        except (ApiError, RequestDenied, OSError, TimeoutError) as error:
            log.warning("cannot renew the client certificate: %s", error)
        await clock.sleep(_BETWEEN)  # also if what is signed ends too soon to be of use


def _names(kubeconfig: Path, pair: Path) -> bool:
    """Whether a kubeconfig has its user show the pair. A file that cannot be read is left alone: it names it."""
    try:
        user = yamltext.load(kubeconfig.read_bytes())["users"][0]["user"]
        return (
            not user.get("client-certificate-data")
            and kubeconfig.parent.absolute() / user["client-certificate"] == pair
        )
    except (OSError, yamltext.YAMLError, KeyError, TypeError, IndexError, AttributeError):
        return True


def _let_name(kubeconfig: Path, pair: Path) -> None:
    """Raises ``OSError``."""
    config = yamltext.load(kubeconfig.read_bytes())
    config["users"][0]["user"] = {"client-certificate": str(pair), "client-key": str(pair)}
    pairs.write(kubeconfig, _dumped(config))


def usable(kubeconfig: Path, now: datetime) -> bool:
    certificate = current(kubeconfig)
    return certificate is not None and certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def current(kubeconfig: Path) -> x509.Certificate | None:
    """The certificate that a kubeconfig shows; None if there is none that can be read."""
    try:
        config = yamltext.load(kubeconfig.read_bytes())
        user = config["users"][0]["user"]
        if data := user.get("client-certificate-data"):
            return x509.load_pem_x509_certificate(base64.b64decode(data))
        return x509.load_pem_x509_certificate((kubeconfig.parent / user["client-certificate"]).read_bytes())
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None


def _kubeconfig(bootstrap: Path, pair: Path) -> bytes:
    """The bootstrap kubeconfig's cluster, with the certificate as its user."""
    given = yamltext.load(bootstrap.read_bytes())
    context = next(entry["context"] for entry in given["contexts"] if entry["name"] == given["current-context"])
    cluster = next(entry["cluster"] for entry in given["clusters"] if entry["name"] == context["cluster"])
    made: dict[str, Any] = {
        "apiVersion": "v1",
        "clusters": [{"cluster": cluster, "name": "default-cluster"}],
        "contexts": [
            {
                "context": {"cluster": "default-cluster", "namespace": "default", "user": "default-auth"},
                "name": "default-context",
            }
        ],
        "current-context": "default-context",
        "kind": "Config",
        "users": [
            {"name": "default-auth", "user": {"client-certificate": str(pair), "client-key": str(pair)}},
        ],
    }
    return _dumped(made)


def _dumped(config: dict[str, Any]) -> bytes:
    import yaml

    return yaml.dump(config, Dumper=yaml.CSafeDumper).encode()
