"""Discovery: how a machine that joins learns where the API server is, and that it is the right one.

By token: the public map ``cluster-info`` is signed with the token, and its authority has to be one of the pinned ones;
then the map is read again over TLS that this authority vouches for. By file: a kubeconfig that somebody has carried
here, or that an HTTPS server has. Source:
https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-join/#discovering-what-cluster-ca-to-trust
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tiphys.api.object import Object
from tiphys.client.errors import ApiError
from tiphys.client.resources import CONFIG_MAPS
from tiphys.client.rest import Client
from tiphys.cluster.kubeadm.configuration.validate import split_host_port
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.controllers.access.bootstrap.tokens import signature
from tiphys.runtime import durations, yamltext
from tiphys.wire.client import SocketTransport
from tiphys.wire.tls.contexts import client_context

_TRY_SECONDS = 1.0
_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Discovered:
    """A cluster that is trusted. ``user`` is what a discovery file says of how to log in; empty without."""

    server: str
    authority: bytes
    user: Object


class NotYet(KubeadmError):
    """What is wanted is not there; it may be soon."""


def pin_of(certificate: x509.Certificate) -> str:
    """The hash of an authority's public key, as RFC 7469 pins it: ``sha256:`` and hexadecimal digits."""
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(public).hexdigest()}"


def pins_of(authority: bytes) -> list[str]:
    """The hashes of all certificates of a bundle, PEM."""
    return [pin_of(certificate) for certificate in x509.load_pem_x509_certificates(authority)]


async def discover(discovery: Object, timeout: str) -> Discovered:
    """The cluster that a ``discovery`` leads to. Raises ``KubeadmError``."""
    if by_file := discovery.get("file"):
        return await _by_file(by_file["kubeConfigPath"])
    return await _by_token(discovery["bootstrapToken"], durations.seconds(timeout))


async def _by_token(given: Object, seconds: float) -> Discovered:
    endpoint, token = given["apiServerEndpoint"], given["token"]
    first = await _cluster_info(endpoint, token, None, seconds)
    text = verified(first, token)
    cluster = cluster_of(text, "the cluster-info ConfigMap")
    pins = given.get("caCertHashes") or []
    if not pins:
        return cluster
    check_pins(cluster.authority, pins)
    second = await _cluster_info(endpoint, token, cluster.authority, seconds)
    if second.get("kubeconfig") != text:
        raise KubeadmError(
            "the second kubeconfig from the cluster-info ConfigMap (using validated TLS) was different from the first: "
            "somebody may stand between this machine and the API server"
        )
    return cluster


async def _cluster_info(endpoint: str, token: str, authority: bytes | None, seconds: float) -> Mapping[str, str]:
    """The data of the map, once it is signed with the token. Raises ``KubeadmError``."""
    host, port = split_host_port(endpoint)
    context = client_context(authority) if authority is not None else client_context(verify=False)
    client = Client(SocketTransport(host, int(port), context), user_agent="kubeadm", timeout=10)
    deadline = time.monotonic() + seconds
    try:
        while True:
            try:
                return await _signed(client, token)
            except (ApiError, ConnectionError, TimeoutError, NotYet) as error:
                if time.monotonic() > deadline:
                    raise KubeadmError(
                        f"couldn't validate the identity of the API Server at {endpoint}: {error or 'timed out'}"
                    ) from error
                await asyncio.sleep(_TRY_SECONDS)
    finally:
        await client.close()


async def _signed(client: Client, token: str) -> Mapping[str, str]:
    data: Mapping[str, str] = (await client.get(CONFIG_MAPS, "cluster-info", "kube-public")).get("data") or {}
    name = token.partition(".")[0]
    if f"jws-kubeconfig-{name}" not in data:
        raise NotYet(
            f'could not find a JWS signature in the cluster-info ConfigMap for token ID "{name}": it has expired, or is'
            " of another cluster; `tiphys token create --print-join-command` on a control plane makes a new one"
        )
    return data


def verified(data: Mapping[str, str], token: str) -> str:
    """The kubeconfig of a map whose signature the token's secret confirms. Raises ``KubeadmError``."""
    text, (name, _, secret) = data.get("kubeconfig", ""), token.partition(".")
    if not text:
        raise KubeadmError(
            "there is no kubeconfig key in the cluster-info ConfigMap. This API Server isn't set up for token "
            "bootstrapping, can't connect"
        )
    if not hmac.compare_digest(data.get(f"jws-kubeconfig-{name}", ""), signature(text, name, secret)):
        raise KubeadmError(
            "failed to verify JWS signature of received cluster info object, can't trust this API Server; is the token "
            "complete, and of this cluster?"
        )
    return text


def cluster_of(text: str | bytes, source: str) -> Discovered:
    """The server and the authority that a kubeconfig names. Raises ``KubeadmError``."""
    try:
        config = yamltext.load(text)
        named = {entry["name"]: entry.get("user") or {} for entry in config.get("users") or []}
        clusters = {entry["name"]: entry["cluster"] for entry in config["clusters"]}
        contexts = {entry["name"]: entry["context"] for entry in config.get("contexts") or []}
        context = contexts.get(config.get("current-context") or "", {})
        cluster = clusters[context["cluster"]] if context else next(iter(clusters.values()))
        authority = base64.b64decode(cluster["certificate-authority-data"])
        return Discovered(cluster["server"], authority, named.get(context.get("user", ""), {}))
    except (yamltext.YAMLError, KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise KubeadmError(
            f"malformed kubeconfig in {source}: {error!r}; it has to name a server and certificate-authority-data"
        ) from error


def check_pins(authority: bytes, pins: Sequence[str]) -> None:
    """Raises ``KubeadmError`` unless one of the certificates is pinned."""
    seen = pins_of(authority)
    if not {pin.lower() for pin in pins} & set(seen):
        raise KubeadmError(
            f"cluster CA found in cluster-info ConfigMap is invalid: none of the public keys {' '.join(seen)} are"
            " pinned; the hash that the control plane prints (`tiphys token create --print-join-command`) is the one"
            " to give"
        )


async def _by_file(place: str) -> Discovered:
    if not place.startswith("https://"):
        try:
            return cluster_of(await asyncio.to_thread(Path(place).read_bytes), place)
        except OSError as error:
            raise KubeadmError(f"discovery file {place}: {error.strerror}") from error
    return cluster_of(await asyncio.to_thread(_download, place), place)


def _download(url: str) -> bytes:
    """By the authorities that this machine trusts. Raises ``KubeadmError``."""
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=ssl.create_default_context()))
    try:
        with opener.open(url, timeout=30) as answer:
            content: bytes = answer.read(_FILE_BYTES)
            return content
    except (urllib.error.URLError, OSError) as error:
        raise KubeadmError(f"discovery file {url} cannot be read: {error}") from error
