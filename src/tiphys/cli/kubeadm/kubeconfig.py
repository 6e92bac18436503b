"""`tiphys kubeconfig user`: a kubeconfig for another user, with a certificate or a token.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-kubeconfig/
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from tiphys.cli.kubeadm import kubeadmflags
from tiphys.cli.kubeadm.certs import context_of
from tiphys.cli.kubeadm.kubeadmflags import KubeadmParser
from tiphys.cluster import kubeconfig as files
from tiphys.cluster.kubeadm import kubeconfigs
from tiphys.cluster.kubeadm.certificates import disk, issue
from tiphys.cluster.kubeadm.failures import ConfigurationError
from tiphys.cluster.pki import CLIENT
from tiphys.runtime import durations


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys kubeconfig``; returns the exit status."""
    return kubeadmflags.run(lambda: _main(list(argv)))


def _main(words: list[str]) -> int:
    if words[:1] != ["user"]:
        raise ConfigurationError("usage: tiphys kubeconfig user --client-name=NAME [--org GROUP,…] [--token TOKEN]")
    parser = KubeadmParser("tiphys kubeconfig user", "Print a kubeconfig for another user.")
    parser.text("client-name", "name of the user: the certificate's common name")
    parser.text("config", "configuration file: says where the API server is")
    parser.many("org", "groups of the user: the certificate's organizations")
    parser.text("token", "token to log in with, in place of a certificate")
    parser.text("validity-period", "how long the certificate is good for (8760h0m0s)")
    given = parser.values(words[1:])
    name = given.get("client-name")
    if not name:
        raise ConfigurationError('required flag(s) "client-name" not set')
    context = context_of(given)
    cluster = context.configuration.cluster
    bundle = disk.certificate_file(context.pki, "ca")
    disk.read_certificate(bundle)
    where = (cluster["clusterName"], context.configuration.server, bundle.read_bytes(), name)
    if token := given.get("token"):
        print(files.dump(kubeconfigs.with_token(*where, token)).decode(), end="")
        return 0
    try:
        valid = timedelta(seconds=durations.seconds(given.get("validity-period", "8760h")))
    except durations.DurationError as error:
        raise ConfigurationError(f"--validity-period: {error}; write for example 720h") from error
    wanted = issue.Wanted(name, tuple(given.get("org", ())), (), CLIENT)
    pair = issue.issue(
        disk.read_authority(context.pki, "ca"), wanted, cluster["encryptionAlgorithm"], context.now, valid
    )
    print(files.dump(kubeconfigs.with_certificate(*where, pair)).decode(), end="")
    return 0
