"""Phase ``kubeconfig``: the files by which administrators and components reach the API server.

A file that exists is kept if it trusts the cluster's authority and leads to its address. Source:
https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-init-phase/#cmd-phase-kubeconfig
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from tiphys.cluster import kubeconfig as files
from tiphys.cluster.kubeadm import kubeconfigs
from tiphys.cluster.kubeadm.certificates import disk, issue
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.kubeconfigs import KubeconfigUser
from tiphys.cluster.kubeadm.layout import write_file
from tiphys.cluster.kubeadm.workflow import CommandPhase
from tiphys.runtime import durations


async def announce(context: Installation) -> None:
    context.say(f'[kubeconfig] Using kubeconfig folder "{context.kubeconfig_dir}"')


def make(user: KubeconfigUser) -> Callable[[Installation], Awaitable[None]]:
    async def run(context: Installation) -> None:
        await asyncio.to_thread(ensure, context, user)

    return run


def ensure(context: Installation, user: KubeconfigUser) -> None:
    """Write one user's file, or look at the one that is there. Raises ``CertificateError``."""
    path = context.kubeconfigs / f"{user.name}.conf"
    shown = f"{context.kubeconfig_dir}/{user.name}.conf"
    authority = disk.certificate_file(context.pki, "ca")
    disk.read_certificate(authority)
    server = user.server(context.configuration)
    if path.exists():
        kubeconfigs.check(_load(path), server, authority.read_bytes(), shown)
        words = "External CA mode: Using user provided" if context.external_ca else "Using existing kubeconfig file:"
        context.say(f'[kubeconfig] {words} "{shown}"')
        return
    if context.external_ca:
        raise disk.CertificateError(
            f"{shown} is missing, and without ca.key it cannot be made here: complete the one that "
            "`tiphys certs generate-csr` writes with the certificate that your CA signs"
        )
    context.say(f'[kubeconfig] Writing "{user.name}.conf" kubeconfig file')
    write_file(path, content(context, user, server))


def content(context: Installation, user: KubeconfigUser, server: str) -> bytes:
    """A user's kubeconfig with a new certificate."""
    cluster = context.configuration.cluster
    wanted = user.wanted(context.configuration)
    valid = timedelta(seconds=durations.seconds(cluster["certificateValidityPeriod"]))
    signer = disk.read_authority(context.pki, "ca")
    pair = issue.issue(signer, wanted, cluster["encryptionAlgorithm"], context.now, valid)
    bundle = disk.certificate_file(context.pki, "ca").read_bytes()
    config = kubeconfigs.with_certificate(cluster["clusterName"], server, bundle, wanted.common_name, pair)
    return files.dump(config)


def _load(path: Path) -> files.Config:
    try:
        return files.load(path)
    except (OSError, ValueError) as error:
        raise disk.CertificateError(f"cannot use {path}: {error}; move it away") from error


KUBECONFIG: CommandPhase[Installation] = CommandPhase(
    "kubeconfig",
    "Generate all kubeconfig files necessary to establish the control plane and the admin kubeconfig file",
    announce,
    tuple(CommandPhase(user.name, user.purpose, make(user)) for user in kubeconfigs.USERS),
)
