"""Phase ``certs``: the authorities, what they sign, and the key of service accounts' tokens.

Files that exist are looked at and kept. Where only an authority's certificate is there, somebody else signs, and what
it signs has to be there. Source: https://kubernetes.io/docs/setup/best-practices/certificates/
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from cryptography import x509

from tiphys.cluster.kubeadm.certificates import disk, issue, table
from tiphys.cluster.kubeadm.certificates.table import Certificate
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.workflow import CommandPhase
from tiphys.cluster.pki import SERVER
from tiphys.runtime import durations


async def announce(context: Installation) -> None:
    context.say(f'[certs] Using certificateDir folder "{context.configuration.certificates}"')


def make(row: Certificate) -> Callable[[Installation], Awaitable[None]]:
    """The phase of one certificate. Keys are made off the loop: an RSA key takes up to a second."""

    async def run(context: Installation) -> None:
        await asyncio.to_thread(_ensure, context, row)

    return run


def _ensure(context: Installation, row: Certificate) -> None:
    if row not in table.needed(context.configuration):
        kind = "certificate" if row.authority else "certificate authority"
        context.say(f"[certs] External etcd mode: Skipping {row.stem} {kind} generation")
    elif row.authority:
        _ensure_signed(context, row)
    else:
        _ensure_authority(context, row)


def _ensure_authority(context: Installation, row: Certificate) -> None:
    if disk.certificate_file(context.pki, row.stem).exists():
        certificate = disk.read_certificate(disk.certificate_file(context.pki, row.stem))
        disk.check_authority(certificate, row.stem)
        _warn_of_end(context, certificate, row.stem)
        kind = "keyless certificate authority"
        if not disk.is_external(context.pki, row.stem):
            disk.read_authority(context.pki, row.stem)
            kind = "certificate authority"
        context.say(f"[certs] Using existing {row.stem} {kind}")
        return
    if disk.key_file(context.pki, row.stem).exists():
        key = disk.key_file(context.pki, row.stem)
        raise disk.CertificateError(
            f"{key} is there without its certificate; restore {row.stem}.crt, or move the key away"
        )
    context.say(f'[certs] Generating "{row.stem}" certificate and key')
    cluster = context.configuration.cluster
    valid = _period(cluster["caCertificateValidityPeriod"])
    disk.write_pair(
        context.pki, row.stem, issue.make_authority(row.common_name, cluster["encryptionAlgorithm"], context.now, valid)
    )


def _ensure_signed(context: Installation, row: Certificate) -> None:
    wanted = row.wanted(context.configuration)
    if disk.certificate_file(context.pki, row.stem).exists():
        pair = disk.read_pair(context.pki, row.stem)
        authority = disk.read_certificate(disk.certificate_file(context.pki, row.authority))
        disk.check_signed(pair.certificate, authority, row.stem, wanted)
        _warn_of_end(context, pair.certificate, row.stem)
        context.say(f"[certs] Using existing {row.stem} certificate and key on disk")
        return
    if disk.is_external(context.pki, row.authority):
        raise disk.CertificateError(
            f"{disk.certificate_file(context.pki, row.stem)} is missing, and without {row.authority}.key it cannot be "
            f"signed here: have your CA sign what `tiphys certs generate-csr` writes, or put {row.authority}.key there"
        )
    cluster = context.configuration.cluster
    pair = issue.issue(
        disk.read_authority(context.pki, row.authority),
        wanted,
        cluster["encryptionAlgorithm"],
        context.now,
        _period(cluster["certificateValidityPeriod"]),
    )
    context.say(f'[certs] Generating "{row.stem}" certificate and key')
    disk.write_pair(context.pki, row.stem, pair)
    if SERVER[0] in wanted.usages:
        dns, addresses = _by_kind(pair.certificate)
        context.say(f"[certs] {row.stem} serving cert is signed for DNS names [{dns}] and IPs [{addresses}]")


async def service_account_key(context: Installation) -> None:
    """The key of tokens; with only its public half here, somebody else signs them."""
    private, public = context.pki / "sa.key", context.pki / "sa.pub"
    if private.exists():
        disk.read_key(private)
        if not public.exists():
            disk.write_signing_key(context.pki, disk.read_key(private))
        context.say('[certs] Using the existing "sa" key')
        return
    if public.exists() and context.external_ca:
        context.say("[certs] Using existing sa keys")
        return
    key = await asyncio.to_thread(issue.new_key, context.configuration.cluster["encryptionAlgorithm"])
    context.say('[certs] Generating "sa" key and public key')
    disk.write_signing_key(context.pki, key)


def _period(text: str) -> timedelta:
    return timedelta(seconds=durations.seconds(text))


def _warn_of_end(context: Installation, certificate: x509.Certificate, stem: str) -> None:
    if problem := disk.ends_problem(certificate, stem, context.now):
        context.warn(problem)


def _by_kind(certificate: x509.Certificate) -> tuple[str, str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = " ".join(str(address) for address in names.get_values_for_type(x509.IPAddress))
    return " ".join(names.get_values_for_type(x509.DNSName)), addresses


CERTS: CommandPhase[Installation] = CommandPhase(
    "certs",
    "Certificate generation",
    announce,
    (
        *(CommandPhase(row.name, f"Generate the {row.purpose}", make(row)) for row in table.CERTIFICATES),
        CommandPhase(
            "sa",
            "Generate a private key for signing service account tokens along with its public key",
            service_account_key,
        ),
    ),
)
