"""`tiphys certs`: when the certificates of a control plane end, new ones, and requests for a CA elsewhere.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-certs/
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiphys.cli.console import table
from tiphys.cli.kubeadm import kubeadmflags
from tiphys.cli.kubeadm.kubeadmflags import KubeadmParser, warn
from tiphys.cluster import kubeconfig as files
from tiphys.cluster.kubeadm import api, copycerts, kubeconfigs, layout
from tiphys.cluster.kubeadm.certificates import disk, issue, renewal, restarting
from tiphys.cluster.kubeadm.certificates.table import CERTIFICATES, needed
from tiphys.cluster.kubeadm.configuration import documents, load
from tiphys.cluster.kubeadm.configuration.dynamic import Host
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.failures import ConfigurationError, KubeadmError
from tiphys.cluster.kubeadm.joining import read_configuration
from tiphys.cluster.kubeadm.layout import HostRoot, write_file

_USAGE = """usage: tiphys certs COMMAND [flags]

  check-expiration    when the certificates end
  renew all|NAME      new ones with the same contents, signed by the authorities that are here
  certificate-key     print a key for `tiphys init --upload-certs --certificate-key`
  generate-csr        keys, and requests for certificates, for an authority that is elsewhere"""
_ASK_SECONDS = 10
_DONE = "\nDone renewing certificates. The components read them again by themselves; nothing has to be restarted."


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys certs``; returns the exit status."""
    return kubeadmflags.run(lambda: _main(list(argv)))


def _main(words: list[str]) -> int:
    match words:
        case ["check-expiration", *flags]:
            return _check(flags)
        case ["renew", *flags]:
            return _renew(flags)
        case ["certificate-key"]:
            print(copycerts.new_key())
            return 0
        case ["generate-csr", *flags]:
            return _requests(flags)
        case [] | ["-h"] | ["--help"]:
            print(_USAGE)
            return 0
    raise ConfigurationError(f'unknown command {words[0]!r} for "tiphys certs"; see tiphys certs --help')


def _parser(verb: str, description: str) -> KubeadmParser:
    made = KubeadmParser(f"tiphys certs {verb}", description)
    made.text("cert-dir", f"folder of certificates ({layout.PKI})")
    made.text("config", "configuration file")
    made.text("kubeconfig-dir", f"folder of kubeconfig files ({layout.KUBERNETES})")
    return made


def context_of(given: Mapping[str, Any]) -> Installation:
    """What the files and the flags say, and without --config the cluster. Raises ``ConfigurationError``."""
    places = kubeadmflags.places_of(given)
    read = documents.read_file(Path(given["config"])) if given.get("config") else _stored(places)
    configuration = load.init_configuration(read, Host.this())
    if folder := given.get("cert-dir"):
        configuration.cluster["certificatesDir"] = str(Path(folder).absolute())
    return Installation(configuration, places, kubeconfig_dir=given.get("kubeconfig-dir", layout.KUBERNETES), warn=warn)


def _stored(places: HostRoot) -> documents.Documents:
    """The ClusterConfiguration that the cluster keeps; none if this is no control plane, or if it does not answer."""
    path = places.on_disk(layout.ADMIN)
    if not path.exists() or places.root != Path("/"):
        return {}

    async def ask() -> documents.Documents:
        async with asyncio.timeout(_ASK_SECONDS), api.connection(path) as client:
            cluster, _, _ = await read_configuration(client)
            return {"ClusterConfiguration": cluster}

    try:
        return asyncio.run(ask())
    except (KubeadmError, TimeoutError) as error:
        warn(
            "Error reading configuration from the Cluster. Falling back to default configuration:"
            f" {error or 'timed out'}"
        )
        return {}


def _check(flags: list[str]) -> int:
    context = context_of(_parser("check-expiration", "Show when certificates end.").values(flags))
    rows = [renewal.row(context, renewable) for renewable in renewal.renewables(context)]
    headings = ("CERTIFICATE", "EXPIRES", "RESIDUAL TIME", "CERTIFICATE AUTHORITY", "EXTERNALLY MANAGED")
    print(table(headings, rows))
    authorities = sorted((row for row in needed(context.configuration) if not row.authority), key=lambda row: row.name)
    print()
    print(
        table(
            ("CERTIFICATE AUTHORITY", "EXPIRES", "RESIDUAL TIME", "EXTERNALLY MANAGED"),
            [renewal.authority_row(context, authority) for authority in authorities],
        )
    )
    return 0


def _renew(flags: list[str]) -> int:
    parser = _parser("renew", "Renew certificates.")
    parser.add_argument("name", metavar="all|NAME", help="which: all, or one that check-expiration lists")
    given = parser.values(flags)
    context = context_of(given)
    known = {renewable.name: renewable for renewable in renewal.renewables(context)}
    if given["name"] != "all" and given["name"] not in known:
        raise ConfigurationError(f'unknown certificate "{given["name"]}"; known: all, {", ".join(known)}')
    wanted = list(known.values()) if given["name"] == "all" else [known[given["name"]]]
    renewed = []
    for renewable in wanted:
        said = renewal.renew(context, renewable)
        print(said)
        if said.endswith(" renewed"):
            renewed.append(renewable.name)
    if context.places.root == Path("/") and (again := restarting.needed(context.places, renewed)):
        asyncio.run(restarting.restart(context.configuration.node["nodeRegistration"]["criSocket"], again))
        print(f"Restarted {', '.join(again)}, which would not have used their new certificates.")
    print(_DONE)
    return 0


def _requests(flags: list[str]) -> int:
    """Write keys and requests. What is there already is an error, as a key must not be lost."""
    context = context_of(_parser("generate-csr", "Write keys and requests for certificates.").values(flags))
    algorithm = context.configuration.cluster["encryptionAlgorithm"]
    for row in CERTIFICATES:
        if not row.authority or row not in needed(context.configuration):
            continue
        key = issue.new_key(algorithm)
        _write_new(disk.key_file(context.pki, row.stem), issue.key_pem(key))
        _write_new(context.pki / f"{row.stem}.csr", issue.signing_request(row.wanted(context.configuration), key))
    _user_requests(context, algorithm)
    return 0


def _user_requests(context: Installation, algorithm: str) -> None:
    cluster = context.configuration.cluster["clusterName"]
    bundle = disk.certificate_file(context.pki, "ca")
    authority = bundle.read_bytes() if bundle.exists() else b""
    for user in kubeconfigs.USERS:
        key, wanted = issue.new_key(algorithm), user.wanted(context.configuration)
        server = user.server(context.configuration)
        config = kubeconfigs.with_key(cluster, server, authority, wanted.common_name, issue.key_pem(key))
        _write_new(context.kubeconfigs / f"{user.name}.conf", files.dump(config))
        _write_new(context.kubeconfigs / f"{user.name}.conf.csr", issue.signing_request(wanted, key))


def _write_new(path: Path, data: bytes) -> None:
    if path.exists():
        raise KubeadmError(f"{path} already exists; move it away, or name other folders: --cert-dir, --kubeconfig-dir")
    write_file(path, data)
