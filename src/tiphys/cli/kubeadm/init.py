"""`tiphys init`: a control plane on this machine, in kubeadm's phases, with kubeadm's flags, files and output.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-init/
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiphys.cli.kubeadm import phased
from tiphys.cli.kubeadm.kubeadmflags import KubeadmParser, warn
from tiphys.cli.kubeadm.phased import PhasedCommand
from tiphys.cluster.kubeadm import layout, workflow
from tiphys.cluster.kubeadm.configuration import documents, fromflags, load, validate
from tiphys.cluster.kubeadm.configuration.defaults import TOKEN_DESCRIPTION
from tiphys.cluster.kubeadm.configuration.dynamic import Host
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.failures import ConfigurationError
from tiphys.cluster.kubeadm.phases.init import INIT


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys init``; returns the exit status."""
    return PhasedCommand("tiphys init", INIT, parser, prepare, begin=_begin).main(argv)


def _begin(context: Installation, only: str, *_: object) -> None:
    if not only:
        context.say(f"[init] Using Kubernetes version: {context.configuration.cluster['kubernetesVersion']}")


def parser(phase: str | None) -> KubeadmParser:
    """kubeadm's flags: those of init, or of init with those that only single phases have."""
    name = f"tiphys init phase {phase.replace('/', ' ')}" if phase else "tiphys init"
    made = KubeadmParser(
        name,
        "Set up the control plane of a cluster on this machine. Its phases, in order:\n\n" + workflow.listing(INIT),
    )
    made.text("config", "configuration file with InitConfiguration, ClusterConfiguration and others")
    made.text("apiserver-advertise-address", "address that the API server is reached at; default: of the default route")
    made.number("apiserver-bind-port", "port of the API server (6443)")
    made.many("apiserver-cert-extra-sans", "further names and addresses in the API server's certificate")
    made.text("cert-dir", f"folder of certificates ({layout.PKI})")
    made.text(
        "certificate-key", "key that encrypts the certificates in the Secret kubeadm-certs, 64 hexadecimal digits"
    )
    made.text("control-plane-endpoint", "address or name, with port, that stays when a control plane goes")
    made.text("cri-socket", "socket of the container runtime")
    made.text("feature-gates", "Name=true|false,…", type=parse_gates)
    made.text("image-repository", "registry of the images; the default is the one image of Tiphys")
    made.text("kubernetes-version", "version to install; this Tiphys knows one")
    made.text("node-name", "name of the node; default: the machine's")
    made.text("patches", "folder of patches: TARGET[SUFFIX][+TYPE].yaml")
    made.text("pod-network-cidr", "range of pods' addresses; each node gets a part of it")
    made.text("service-cidr", "range of Services' addresses (10.96.0.0/12)")
    made.text("service-dns-domain", "domain of Services (cluster.local)")
    made.many("ignore-preflight-errors", "checks that only warn; all for every one")
    made.many("skip-phases", "phases to skip")
    made.switch("dry-run", "write what would be written to a folder of its own, and change nothing else")
    made.switch("skip-token-print", "do not print the bootstrap token")
    made.switch("skip-certificate-key-print", "do not print the key of the uploaded certificates")
    made.switch("upload-certs", "upload the certificates that further control planes need, encrypted")
    made.switch("virtual-address", "let the control planes hold the address of the endpoint among themselves")
    made.text("token", "bootstrap token: [a-z0-9]{6}.[a-z0-9]{16}")
    made.text("token-ttl", "how long the token lives (24h0m0s); 0: for ever")
    if phase:
        made.text("kubeconfig", f"the administrator's kubeconfig ({layout.ADMIN})")
        made.text("kubeconfig-dir", f"folder of kubeconfig files ({layout.KUBERNETES})")
        for component in ("apiserver", "controller-manager", "scheduler"):
            made.text(f"{component}-extra-args", "further flags: name=value,…", type=parse_arguments)
    return made


def prepare(given: Mapping[str, Any]) -> tuple[Installation, list[str]]:
    """The context of a run, and the phases to skip. Raises ``ConfigurationError``."""
    host = Host.this()
    configuration = load.init_configuration(_documents(given), host, cgroup_driver=host.cgroup_driver)
    node = configuration.node
    if named := given.get("node-name"):
        node["nodeRegistration"]["name"] = named.lower()
        validate.check(validate.registration(node["nodeRegistration"], "nodeRegistration"))
    ignored = phased.ignored_checks(given, node["nodeRegistration"])
    places, dry_run = phased.run_places(given, node, "init")
    context = Installation(
        configuration,
        places,
        dry_run=dry_run,
        ignored=ignored,
        upload_certs=bool(given.get("upload-certs")),
        show_certificate_key=not given.get("skip-certificate-key-print"),
        show_token=not given.get("skip-token-print"),
        virtual_address=_virtual_address(given, configuration),
        kubeconfig=given.get("kubeconfig", layout.ADMIN),
        kubeconfig_dir=given.get("kubeconfig-dir", layout.KUBERNETES),
        warn=warn,
    )
    for warning in host.warnings:
        warn(warning)
    return context, phased.skipped_phases(given, node)


def _virtual_address(given: Mapping[str, Any], configuration: load.Configuration) -> bool:
    """Raises ``ConfigurationError`` if the endpoint is no address that could be held."""
    if not given.get("virtual-address"):
        return False
    host, _ = validate.split_host_port(configuration.cluster.get("controlPlaneEndpoint", ""))
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ConfigurationError(
            "--virtual-address: the control planes can hold an IP address only; name a free one of the nodes' network"
            " as controlPlaneEndpoint: --control-plane-endpoint=192.0.2.10:6443"
        ) from None
    if host == configuration.address:
        raise ConfigurationError(
            f"--virtual-address: {host} is this node's own address; name a free one of its network"
        )
    return True


def _documents(given: Mapping[str, Any]) -> documents.Documents:
    if path := given.get("config"):
        fromflags.refuse_mixture(given)
        read = documents.read_file(Path(path))
        documents.wanted(read, "InitConfiguration", "ClusterConfiguration")
        return read
    made = fromflags.documents_of(given, fromflags.INIT_FLAGS)
    token = made["InitConfiguration"]["bootstrapTokens"][0]
    token["description"] = TOKEN_DESCRIPTION
    if "token" in given:
        token["token"] = given["token"]
    if "token-ttl" in given:
        token["ttl"] = given["token-ttl"]
    for component in ("apiServer", "controllerManager", "scheduler"):
        flag = {"controllerManager": "controller-manager"}.get(component, component.lower())
        if extra := given.get(f"{flag}-extra-args"):
            made["ClusterConfiguration"][component]["extraArgs"] = extra
    return made


def parse_gates(text: str) -> dict[str, bool]:
    """``Name=true|false,…``. Raises ``ConfigurationError``."""
    gates = {}
    for pair in filter(None, text.split(",")):
        name, equals, value = pair.partition("=")
        if not equals or value.lower() not in ("true", "false"):
            raise ConfigurationError(f"--feature-gates: {pair!r} is not Name=true or Name=false")
        gates[name] = value.lower() == "true"
    return gates


def parse_arguments(text: str) -> list[dict[str, str]]:
    """``name=value,…`` as a list of arguments."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    if bad := [name for name, equals, _ in pairs if not equals]:
        raise ConfigurationError(f"{bad[0]!r} has no value; write name=value,…")
    return [{"name": name.strip(), "value": value} for name, _, value in pairs]
