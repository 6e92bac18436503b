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
from tiphys.cli.kubeadm import kubeadmflags
from tiphys.cli.kubeadm.kubeadmflags import KubeadmParser, warn
from tiphys.cluster.kubeadm import api, layout, upgrading, workflow
from tiphys.cluster.kubeadm.configuration.defaults import DEFAULTS
from tiphys.cluster.kubeadm.configuration.dynamic import Host, complete_endpoint, complete_registration
from tiphys.cluster.kubeadm.configuration.load import Configuration
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.failures import ConfigurationError, KubeadmError
from tiphys.cluster.kubeadm.joining import read_configuration
from tiphys.cluster.kubeadm.kubeletservice import ENVIRONMENT, environment_flags
from tiphys.cluster.kubeadm.phases import preflight
from tiphys.cluster.kubeadm.phases.addon import ADDON
from tiphys.cluster.kubeadm.phases.upload import UPLOAD_CONFIG
from tiphys.runtime import yamltext

_USAGE = """usage: tiphys upgrade COMMAND [flags]

  plan     what would change on this control plane
  diff     the same, line by line
  apply    change this control plane, the cluster's configuration and its add-ons; run it on one control plane
  node     change this control plane; run it on each other one"""
_ADDRESS = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys upgrade``; returns the exit status."""
    return kubeadmflags.run(lambda: _main(list(argv)))


def _main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE)
        return 0
    verb, flags = words[0], words[1:]
    if verb not in ("plan", "diff", "apply", "node"):
        raise ConfigurationError(f'unknown command "{verb}" for "tiphys upgrade"; see tiphys upgrade --help')
    parser = KubeadmParser(f"tiphys upgrade {verb}", _USAGE)
    parser.text("kubeconfig", f"the administrator's kubeconfig ({layout.ADMIN})")
    parser.text("patches", "folder of patches: TARGET[SUFFIX][+TYPE].yaml")
    parser.number("context-lines", "lines around a change that diff shows (3)")
    parser.switch("yes", "skip the question", short="y")
    given = parser.values(flags)
    kubeadmflags.configure_logs(given)
    return asyncio.run(_run(verb, given))


async def _run(verb: str, given: Mapping[str, Any]) -> int:
    places = kubeadmflags.places_of(given)
    async with api.connection(kubeadmflags.kubeconfig_of(given, places)) as client:
        cluster, kubelet, held = await read_configuration(client)
        context = _installation(given, cluster, kubelet, virtual_address=held)
        if verb == "diff":
            print("\n".join(change.diff(given.get("context-lines", 3)) for change in upgrading.changes(context)))
            return 0
        rows = [(change.component, *change.images) for change in upgrading.changes(context)]
        print(table(("COMPONENT", "CURRENT", "TARGET"), rows))
        if verb == "plan":
            return 0
        if verb == "apply" and not given.get("yes") and not _agreed():
            raise KubeadmError("won't proceed; pass --yes to skip the question")
        await preflight.pull(context)
        await upgrading.change_manifests(context, client)
    await upgrading.change_kubelet(context)
    if verb == "apply":
        await workflow.run((UPLOAD_CONFIG, ADDON), context)
    print("\n[upgrade] SUCCESS! This control plane runs the Tiphys that this command is of. Enjoy!")
    return 0


def _installation(
    given: Mapping[str, Any], cluster: dict[str, Any], kubelet: dict[str, Any], *, virtual_address: bool
) -> Installation:
    """What the cluster says, with this node's part as its files have it. Raises ``KubeadmError``."""
    places, host = kubeadmflags.places_of(given), Host.this()
    node: dict[str, Any] = {}
    DEFAULTS["InitConfiguration"](node)
    registration = node["nodeRegistration"]
    words = [word.partition("=") for word in environment_flags(places.on_disk(layout.KUBELET_FLAGS), ENVIRONMENT)]
    registration["name"] = next((value for name, _, value in words if name == "--hostname-override"), "")
    registration["criSocket"] = _read(places.on_disk(layout.KUBELET_CONFIG)).get("containerRuntimeEndpoint", "")
    complete_registration(registration, host, control_plane=True)
    server = _read(places.manifest("kube-apiserver"))
    where = ((server.get("metadata") or {}).get("annotations") or {}).get(_ADDRESS, "")
    address, _, port = where.rpartition(":")
    if not address:
        raise KubeadmError(
            f"{layout.MANIFESTS}/kube-apiserver.yaml has no annotation {_ADDRESS}; upgrade runs on control planes that "
            "`tiphys init` or `tiphys join` made"
        )
    node["localAPIEndpoint"] = {"advertiseAddress": address.strip("[]"), "bindPort": int(port)}
    complete_endpoint(node["localAPIEndpoint"], host)
    if folder := given.get("patches"):
        node["patches"] = {"directory": folder}
    configuration = Configuration(node, cluster, {**kubelet, "cgroupDriver": host.cgroup_driver})
    return Installation(configuration, places, warn=warn, virtual_address=virtual_address)


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
