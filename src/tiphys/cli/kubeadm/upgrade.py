"""`tiphys upgrade`: a control plane of `tiphys init` or `join` becomes one of this Tiphys, in place.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-upgrade/
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiphys.cli.console import table
from tiphys.cli.kubeadm import kubeadmflags, phased
from tiphys.cli.kubeadm.kubeadmflags import KubeadmParser, warn
from tiphys.cluster.kubeadm import api, layout, upgrading, workflow
from tiphys.cluster.kubeadm.configuration import documents, fromflags
from tiphys.cluster.kubeadm.configuration.defaults import DEFAULTS
from tiphys.cluster.kubeadm.configuration.dynamic import Host, complete_endpoint, complete_registration
from tiphys.cluster.kubeadm.configuration.load import Configuration
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.failures import ConfigurationError, KubeadmError
from tiphys.cluster.kubeadm.joining import read_configuration
from tiphys.cluster.kubeadm.kubeletservice import ENVIRONMENT, environment_flags
from tiphys.cluster.kubeadm.layout import HostRoot
from tiphys.cluster.kubeadm.phases.upgrade import APPLY, NODE, Upgrade
from tiphys.runtime import yamltext

_USAGE = """usage: tiphys upgrade COMMAND [flags]

  plan     what would change on this control plane
  diff     the same, line by line
  apply    change this control plane, the cluster's configuration and its add-ons; run it on one control plane
  node     change this node; run it on each other one, control planes first
  apply phase NAME, node phase NAME    one phase alone; `apply phase list` and `node phase list` show them"""
_ADDRESS = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"
_PHASES = {"apply": APPLY, "node": NODE}


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys upgrade``; returns the exit status."""
    return kubeadmflags.run(lambda: _main(list(argv)))


def _main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE)
        return 0
    verb, rest = words[0], words[1:]
    if verb not in ("plan", "diff", "apply", "node"):
        raise ConfigurationError(f'unknown command "{verb}" for "tiphys upgrade"; see tiphys upgrade --help')
    phase, flags = kubeadmflags.split_phase(rest, f"tiphys upgrade {verb}") if verb in _PHASES else (None, rest)
    if phase == "list":
        print(workflow.listing(_PHASES[verb]))
        return 0
    given = _parser(verb).values(flags)
    kubeadmflags.configure_logs(given)
    document = _document(given, verb)
    skipped = phased.skipped_phases(given, document)
    if verb in _PHASES:
        workflow.selected(_PHASES[verb], phase or "", skipped)  # a name that no phase has is an error before all else
    return asyncio.run(_run(verb, {**given, "document": document}, phase or "", skipped))


def _parser(verb: str) -> KubeadmParser:
    parser = KubeadmParser(f"tiphys upgrade {verb}", _USAGE)
    parser.text("config", "configuration file with an UpgradeConfiguration")
    parser.text("kubeconfig", f"the administrator's kubeconfig ({layout.ADMIN}); of a worker, {layout.KUBELET_CONF}")
    parser.text("patches", "folder of patches: TARGET[SUFFIX][+TYPE].yaml")
    if verb == "diff":
        parser.number("context-lines", "lines around a change that diff shows (3)")
    if verb in _PHASES:
        parser.switch("certificate-renewal", "renew the certificates of the control plane as well (true)")
        parser.switch("etcd-upgrade", "change etcd as well (true)")
        parser.switch("dry-run", "say what would be done, and change nothing")
        parser.many("ignore-preflight-errors", "checks that only warn; all for every one")
        parser.many("skip-phases", "phases to skip")
    if verb == "apply":
        parser.switch("yes", "skip the question", short="y")
    return parser


def _document(given: Mapping[str, Any], verb: str) -> dict[str, Any]:
    """What an UpgradeConfiguration says of a command; the defaults without one. Raises ``ConfigurationError``."""
    document: dict[str, Any] = {}
    if path := given.get("config"):
        fromflags.refuse_mixture(given)
        read = documents.read_file(Path(path))
        documents.wanted(read, "UpgradeConfiguration")
        document = read["UpgradeConfiguration"]
    else:
        DEFAULTS["UpgradeConfiguration"](document)
    return {**document[verb], "timeouts": document["timeouts"]}


async def _run(verb: str, given: Mapping[str, Any], phase: str, skipped: Sequence[str]) -> int:
    places = kubeadmflags.places_of(given)
    control_plane = places.manifest("kube-apiserver").exists()
    if not control_plane and verb != "node":
        raise KubeadmError(
            f"{layout.MANIFESTS}/kube-apiserver.yaml does not exist: this is no control plane; run `tiphys upgrade"
            " node` here, after `tiphys upgrade apply` on a control plane"
        )
    if not control_plane and not places.on_disk(layout.KUBELET_CONF).exists():
        raise KubeadmError(f"{layout.KUBELET_CONF} does not exist: no node was set up here by `tiphys init` or `join`")
    if not control_plane and "kubeconfig" not in given:
        given = {**given, "kubeconfig": str(places.on_disk(layout.KUBELET_CONF))}
    async with api.connection(kubeadmflags.kubeconfig_of(given, places)) as client:
        cluster, kubelet, held = await read_configuration(client)
        context = _installation(given, cluster, kubelet, control_plane=control_plane)
        context.virtual_address = held and control_plane
        if verb == "diff":
            lines = given.get("context-lines", given["document"].get("contextLines") or 3)
            print("\n".join(change.diff(lines) for change in upgrading.changes(context)))
            return 0
        if control_plane:
            rows = [(change.component, *change.images) for change in upgrading.changes(context)]
            print(table(("COMPONENT", "CURRENT", "TARGET"), rows))
        if verb == "plan":
            return 0
        if verb == "apply" and not (given.get("yes") or context.dry_run or _agreed()):
            raise KubeadmError("won't proceed; pass --yes to skip the question")
        upgrade = Upgrade(context, client, control_plane)
        upgrade.etcd = bool(given.get("etcd-upgrade", given["document"].get("etcdUpgrade", True)))
        upgrade.renew = bool(given.get("certificate-renewal", given["document"].get("certificateRenewal", True)))
        await workflow.run(_PHASES[verb], upgrade, only=phase, skipped=skipped)
    if not phase:
        kind = "control plane" if control_plane else "node"
        done = "would run" if context.dry_run else "runs"
        print(f"\n[upgrade] SUCCESS! This {kind} {done} the Tiphys that this command is of. Enjoy!")
    return 0


def _installation(
    given: Mapping[str, Any], cluster: dict[str, Any], kubelet: dict[str, Any], *, control_plane: bool
) -> Installation:
    """What the cluster says, with this node's part as its files have it. Raises ``KubeadmError``."""
    places, host, document = kubeadmflags.places_of(given), Host.this(), given["document"]
    node: dict[str, Any] = {}
    DEFAULTS["InitConfiguration"](node)
    node["timeouts"] = document["timeouts"]
    registration = node["nodeRegistration"]
    words = [word.partition("=") for word in environment_flags(places.on_disk(layout.KUBELET_FLAGS), ENVIRONMENT)]
    registration["name"] = next((value for name, _, value in words if name == "--hostname-override"), "")
    registration["criSocket"] = _read(places.on_disk(layout.KUBELET_CONFIG)).get("containerRuntimeEndpoint", "")
    registration["imagePullPolicy"] = document.get("imagePullPolicy") or registration["imagePullPolicy"]
    complete_registration(registration, host, control_plane=control_plane)
    node["localAPIEndpoint"] = _endpoint(places) if control_plane else {"advertiseAddress": "127.0.0.1"}
    complete_endpoint(node["localAPIEndpoint"], host)
    if folder := given.get("patches") or (document.get("patches") or {}).get("directory"):
        node["patches"] = {"directory": folder}
    ignored = phased.ignored_checks(given, document)
    configuration = Configuration(node, cluster, {**kubelet, "cgroupDriver": host.cgroup_driver})
    dry_run = bool(given.get("dry-run", document.get("dryRun", False)))
    return Installation(configuration, places, dry_run=dry_run, ignored=ignored, warn=warn)


def _endpoint(places: HostRoot) -> dict[str, Any]:
    """Where this node's API server is, by the manifest that init or join wrote. Raises ``KubeadmError``."""
    server = _read(places.manifest("kube-apiserver"))
    where = ((server.get("metadata") or {}).get("annotations") or {}).get(_ADDRESS, "")
    address, _, port = where.rpartition(":")
    if not address:
        raise KubeadmError(
            f"{layout.MANIFESTS}/kube-apiserver.yaml has no annotation {_ADDRESS}; upgrade runs on control planes that "
            "`tiphys init` or `tiphys join` made"
        )
    return {"advertiseAddress": address.strip("[]"), "bindPort": int(port)}


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yamltext.load(path.read_bytes())
    except (OSError, yamltext.YAMLError) as error:
        raise KubeadmError(f"{path} cannot be read: {error}") from error
    return document if isinstance(document, dict) else {}


def _agreed() -> bool:
    if not sys.stdin.isatty():
        return False
    return input("[upgrade] Are you sure you want to proceed? [y/N]: ").strip().lower() in ("y", "yes")
