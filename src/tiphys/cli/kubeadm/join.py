"""`tiphys join`: this machine joins a cluster, as a worker or as a further control plane.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-join/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiphys.cli.kubeadm import phased
from tiphys.cli.kubeadm.kubeadmflags import KubeadmParser, warn
from tiphys.cli.kubeadm.phased import PhasedCommand
from tiphys.cluster.kubeadm import layout, workflow
from tiphys.cluster.kubeadm.configuration import documents, fromflags, load
from tiphys.cluster.kubeadm.configuration.documents import complete
from tiphys.cluster.kubeadm.configuration.dynamic import Host
from tiphys.cluster.kubeadm.failures import ConfigurationError
from tiphys.cluster.kubeadm.joining import Joining
from tiphys.cluster.kubeadm.phases.join import JOIN, etcd_follows

_DONE = """
This node has joined the cluster:
* Certificate signing request was sent to apiserver and a response was received.
* The Kubelet was informed of the new secure connection details.

Run 'kubectl get nodes' on the control-plane to see this node join the cluster.
"""
_CONTROL_PLANE_DONE = f"""
This node has joined the cluster and a new control plane instance was created:

* Certificate signing request was sent to apiserver and approval was received.
* The Kubelet was informed of the new secure connection details.
* Control plane label and taint were applied to the new node.
* The Kubernetes control plane instances scaled up.
* A new etcd member was added to the local/stacked etcd cluster.

To start administering your cluster from this node, you need to run the following as a regular user:

\tmkdir -p $HOME/.kube
\tsudo cp -i {layout.ADMIN} $HOME/.kube/config
\tsudo chown $(id -u):$(id -g) $HOME/.kube/config

Run 'kubectl get nodes' to see this node join the cluster.
"""


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys join``; returns the exit status."""
    return PhasedCommand("tiphys join", JOIN, parser, prepare, begin=_begin, end=_end).main(argv)


def _begin(joining: Joining, only: str, skipped: list[str], _: object) -> None:
    joining.etcd_follows = etcd_follows(only, skipped)


def _end(joining: Joining) -> None:
    if not joining.dry_run:
        print(_CONTROL_PLANE_DONE if joining.control_plane else _DONE)


def parser(phase: str | None) -> KubeadmParser:
    """kubeadm\'s flags of join."""
    name = f"tiphys join phase {phase.replace('/', ' ')}" if phase else "tiphys join"
    made = KubeadmParser(name, "Join a cluster. The phases, in order:\n\n" + workflow.listing(JOIN))
    made.add_argument("endpoint", nargs="?", metavar="API-SERVER", help="address and port of the API server")
    made.text("config", "configuration file with a JoinConfiguration")
    made.switch("control-plane", "become a further control plane")
    made.text("apiserver-advertise-address", "address of this node's API server, of a control plane")
    made.number("apiserver-bind-port", "its port (6443)")
    made.text("certificate-key", "key of the certificates that init uploaded")
    made.text("cri-socket", "socket of the container runtime")
    made.text("discovery-file", "kubeconfig, a file or an https:// URL, that names the cluster and its CA")
    made.text("discovery-token", "token by which the cluster is recognized")
    made.many("discovery-token-ca-cert-hash", "hash of the cluster CA's public key: sha256:…")
    made.switch("discovery-token-unsafe-skip-ca-verification", "trust whoever knows the token")
    made.text("tls-bootstrap-token", "token by which this node asks for its certificate")
    made.text("token", "both tokens, where they are the same")
    made.text("node-name", "name of the node; default: the machine's")
    made.text("patches", "folder of patches: TARGET[SUFFIX][+TYPE].yaml")
    made.many("ignore-preflight-errors", "checks that only warn; all for every one")
    made.many("skip-phases", "phases to skip")
    made.switch("dry-run", "write what would be written to a folder of its own, and change nothing else")
    return made


def prepare(given: Mapping[str, Any]) -> tuple[Joining, list[str]]:
    """The run, and the phases to skip. Raises ``ConfigurationError``."""
    host = Host.this()
    join = load.join_configuration(_documents(given), host)
    registration = join["nodeRegistration"]
    if "config" in given and given.get("node-name"):
        registration["name"] = given["node-name"].lower()
    ignored = phased.ignored_checks(given, registration)
    places, dry_run = phased.run_places(given, join, "join")
    for warning in host.warnings:
        warn(warning)
    joining = Joining(join, places, dry_run=dry_run, ignored=ignored, warn=warn, cgroup_driver=host.cgroup_driver)
    return joining, phased.skipped_phases(given, join)


def _documents(given: Mapping[str, Any]) -> documents.Documents:
    endpoint = given.get("endpoint")
    if path := given.get("config"):
        fromflags.refuse_mixture({name: value for name, value in given.items() if value is not None})
        read = documents.read_file(Path(path))
        documents.wanted(read, "JoinConfiguration")
        return read
    raw: dict[str, Any] = {}
    for name, value in given.items():
        if name in fromflags.JOIN_FLAGS and value is not None:
            fromflags.place(raw, fromflags.JOIN_FLAGS[name][1], value)
    if "controlPlane" in raw and not given.get("control-plane"):
        mine = [
            name
            for name, (_, place) in fromflags.JOIN_FLAGS.items()
            if place.startswith("controlPlane.") and name in given
        ]
        raise ConfigurationError(f"--{mine[0]} is a control plane's; give --control-plane as well, or leave it out")
    if given.get("control-plane"):
        raw.setdefault("controlPlane", {})
    discovery = raw.setdefault("discovery", {})
    if token := given.get("token"):
        discovery.setdefault("tlsBootstrapToken", token)
        if "file" not in discovery:
            discovery.setdefault("bootstrapToken", {}).setdefault("token", token)
    if endpoint and "bootstrapToken" in discovery:
        discovery["bootstrapToken"]["apiServerEndpoint"] = endpoint
    return {"JoinConfiguration": complete(raw, "JoinConfiguration", "flags")}
