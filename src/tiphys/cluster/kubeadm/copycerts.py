"""The certificates that all control planes share, encrypted for the way through the cluster: AES-256-GCM with a key
that only those who join are given. Each value is nonce and ciphertext.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-init/#uploading-control-plane-certificates-to-the-cluster
"""

from __future__ import annotations

import base64
import os
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tiphys.api.object import Object
from tiphys.cluster.kubeadm.configuration.load import Configuration
from tiphys.cluster.kubeadm.configuration.validate import CERTIFICATE_KEY_BYTES
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.cluster.kubeadm.layout import PRIVATE, PUBLIC, HostRoot, write_file

SECRET = "kubeadm-certs"
_NONCE_BYTES = 12


def new_key() -> str:
    """A certificate key: 32 random bytes in hexadecimal digits."""
    return secrets.token_hex(CERTIFICATE_KEY_BYTES)


def transferred(configuration: Configuration) -> dict[str, str]:
    """The files by the names of their fields in the Secret."""
    pki = configuration.certificates
    names = ["ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.pub", "sa.key"]
    if external := configuration.cluster["etcd"].get("external"):
        files = {name: f"{pki}/{name}" for name in names}
        fields = {"external-etcd-ca.crt": "caFile", "external-etcd.crt": "certFile", "external-etcd.key": "keyFile"}
        return files | {name: external[field] for name, field in fields.items() if external.get(field)}
    return {name.replace("/", "-"): f"{pki}/{name}" for name in [*names, "etcd/ca.crt", "etcd/ca.key"]}


def encrypted(configuration: Configuration, places: HostRoot, key: str) -> dict[str, bytes]:
    """Each file's encrypted content; empty for one that is not there."""
    data = {}
    for name, path in transferred(configuration).items():
        file = places.on_disk(path)
        data[name] = encrypt(file.read_bytes(), key) if file.exists() else b""
    return data


def encrypt(content: bytes, key: str) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(bytes.fromhex(key)).encrypt(nonce, content, None)


def decrypt(content: bytes, key: str) -> bytes:
    """Raises ``KubeadmError``."""
    try:
        return AESGCM(bytes.fromhex(key)).decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], None)
    except (InvalidTag, ValueError) as error:
        raise KubeadmError(
            "error decoding secret data with provided key: it is not the key that the certificates were uploaded with; "
            "upload them again on a control plane: `tiphys init phase upload-certs --upload-certs`"
        ) from error


def secret(data: dict[str, bytes], owner: Object | None) -> Object:
    """The Secret, owned by the token that ends it."""
    meta: Object = {"name": SECRET, "namespace": "kube-system"}
    if owner is not None:
        meta["ownerReferences"] = [
            {
                "apiVersion": "v1",
                "blockOwnerDeletion": True,
                "controller": True,
                "kind": "Secret",
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
            }
        ]
    encoded = {name: base64.b64encode(content).decode() for name, content in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": encoded}


def store(stored: Object, configuration: Configuration, places: HostRoot, key: str) -> None:
    """Write what a Secret holds to its files. Raises ``KubeadmError`` before any is written."""
    contents = {name: base64.b64decode(value) for name, value in (stored.get("data") or {}).items()}
    clear = {name: decrypt(content, key) for name, content in contents.items() if content}
    for name, path in transferred(configuration).items():
        if name not in contents:
            raise KubeadmError(
                f"the Secret does not include the required certificate or key - name: {name}, path: {path}"
            )
    for name, path in transferred(configuration).items():
        if name in clear:
            write_file(places.on_disk(path), clear[name], PRIVATE if name.endswith(".key") else PUBLIC)
