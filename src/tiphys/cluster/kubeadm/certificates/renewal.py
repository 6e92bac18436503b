"""The certificates of a control plane as they are: when they end, and having new ones signed with the same contents.

Source: https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-certs/
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import NameOID

from tiphys.cluster import kubeconfig as files
from tiphys.cluster.kubeadm import kubeconfigs
from tiphys.cluster.kubeadm.certificates import disk, table
from tiphys.cluster.kubeadm.certificates.issue import Pair, Wanted, issue
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.kubeconfigs import KubeconfigUser
from tiphys.cluster.kubeadm.layout import rewrite_file
from tiphys.cluster.kubeadm.table_text import duration_words
from tiphys.cluster.pki import Usages, names_of
from tiphys.runtime import durations

_KUBECONFIGS = ("admin", "controller-manager", "scheduler", "super-admin")


@dataclass(frozen=True, slots=True)
class Renewable:
    """One certificate that can be renewed: a file of its own, or one within a kubeconfig."""

    name: str
    purpose: str
    authority: str
    """The stem of its signer's files."""
    row: table.Certificate | None = None
    user: KubeconfigUser | None = None


def renewables(context: Installation) -> list[Renewable]:
    """By name, as upstream lists them."""
    files_of = [
        Renewable(row.name, row.purpose, row.authority, row=row)
        for row in table.needed(context.configuration)
        if row.authority
    ]
    users = [kubeconfigs.BY_NAME[name] for name in _KUBECONFIGS]
    if (context.kubeconfigs / f"{kubeconfigs.VIRTUAL_ADDRESS.name}.conf").exists():
        users.append(kubeconfigs.VIRTUAL_ADDRESS)
    embedded = [
        Renewable(
            f"{user.name}.conf",
            "certificate embedded in the kubeconfig file for "
            + user.purpose.removeprefix("Generate a kubeconfig file for "),
            "ca",
            user=user,
        )
        for user in users
    ]
    return sorted([*files_of, *embedded], key=lambda renewable: renewable.name)


def current(context: Installation, renewable: Renewable) -> x509.Certificate | None:
    """The certificate that is there; None if it is missing. Raises ``CertificateError`` if it cannot be read."""
    if renewable.row is not None:
        path = disk.certificate_file(context.pki, renewable.row.stem)
        return disk.read_certificate(path) if path.exists() else None
    path = context.kubeconfigs / renewable.name
    if not path.exists():
        return None
    try:
        _, _, certificate, _ = files.credentials(files.load(path))
        return x509.load_pem_x509_certificate(certificate)
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise disk.CertificateError(f"{path} holds no certificate that can be read: {error}") from error


def renew(context: Installation, renewable: Renewable) -> str:
    """Have a certificate with the same contents signed for a new key; returns the line that says what was done."""
    certificate = current(context, renewable)
    if certificate is None:
        return f"MISSING! {renewable.purpose}"
    if disk.is_external(context.pki, renewable.authority):
        return f"Detected external {renewable.authority}, {renewable.purpose} can't be renewed"
    cluster = context.configuration.cluster
    valid = timedelta(seconds=durations.seconds(cluster["certificateValidityPeriod"]))
    signer = disk.read_authority(context.pki, renewable.authority)
    pair = issue(signer, contents_of(certificate), cluster["encryptionAlgorithm"], context.now, valid)
    if renewable.row is not None:
        disk.write_pair(context.pki, renewable.row.stem, pair)
    else:
        _embed(context, renewable, pair)
    return f"{renewable.purpose} renewed"


def contents_of(certificate: x509.Certificate) -> Wanted:
    """What a certificate says: subject, names and usages."""

    def attributes(oid: x509.ObjectIdentifier) -> list[str]:
        return [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(oid)]

    usages: Usages = tuple(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    organizations = tuple(attributes(NameOID.ORGANIZATION_NAME))
    return Wanted(attributes(NameOID.COMMON_NAME)[0], organizations, tuple(names_of(certificate)), usages)


def _embed(context: Installation, renewable: Renewable, pair: Pair) -> None:
    path = context.kubeconfigs / renewable.name
    config = files.load(path)
    config["users"][0]["user"] = {
        "client-certificate-data": base64.b64encode(pair.certificate_pem).decode(),
        "client-key-data": base64.b64encode(pair.key_pem).decode(),
    }
    authority = disk.certificate_file(context.pki, "ca").read_bytes()
    config["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(authority).decode()
    rewrite_file(path, files.dump(config))


def row(context: Installation, renewable: Renewable) -> tuple[str, ...]:
    """One line of `certs check-expiration`."""
    certificate = current(context, renewable)
    if certificate is None:
        return (f"!MISSING! {renewable.name}", "", "", "", "")
    external = "yes" if disk.is_external(context.pki, renewable.authority) else "no"
    signer = next(entry.name for entry in table.CERTIFICATES if entry.stem == renewable.authority)
    return (renewable.name, *_ends(certificate, context.now), signer, external)


def authority_row(context: Installation, authority: table.Certificate) -> tuple[str, ...]:
    path = disk.certificate_file(context.pki, authority.stem)
    if not path.exists():
        return (f"!MISSING! {authority.name}", "", "", "")
    external = "yes" if disk.is_external(context.pki, authority.stem) else "no"
    return (authority.name, *_ends(disk.read_certificate(path), context.now), external)


def _ends(certificate: x509.Certificate, now: datetime) -> tuple[str, str]:
    ends = certificate.not_valid_after_utc
    return f"{ends:%b %d, %Y %H:%M} UTC", duration_words((ends - now).total_seconds())
