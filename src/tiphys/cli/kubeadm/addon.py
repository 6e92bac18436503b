"""`tiphys addon`: what runs in the cluster's own pods, as manifests that can be read, changed and applied."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiphys.addons.apply import apply_objects, delete_objects
from tiphys.addons.objects import ADDONS, AddonSettings, UnknownAddon, addon_manifest, addon_objects
from tiphys.api.meta.addresspools import parse_pool
from tiphys.cli import image
from tiphys.cli.addonsettings import settings_of
from tiphys.cli.console import Console, fail, table
from tiphys.cli.options import parser
from tiphys.client.errors import ApiError, NotFound
from tiphys.client.kubeconfig import KubeconfigError, client_from_file, connected, server_of
from tiphys.client.resources import CONFIG_MAPS
from tiphys.client.rest import Client
from tiphys.cluster import kubeconfig
from tiphys.cluster.images import COMPONENT_IMAGE
from tiphys.cluster.settings import Settings, SettingsError, network_address
from tiphys.runtime import yamltext


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys addon list``, ``show``, ``apply`` or ``delete``; returns the exit status."""
    arguments = _options().parse_args(argv)
    if arguments.verb == "list":
        print(table(("ADD-ON", "WHAT IT IS"), list(ADDONS.items())))
        return 0
    try:
        return asyncio.run(_run(arguments))
    except (ApiError, ConnectionError, TimeoutError, UnknownAddon, KubeconfigError, SettingsError) as error:
        fail(error)


def _options() -> argparse.ArgumentParser:
    options = parser("addon", "List, show, apply and delete what runs in the cluster's own pods.")
    verbs = options.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="list the add-ons")
    for verb, help in (
        ("show", "print an add-on's manifest"),
        ("apply", "apply an add-on's manifest"),
        ("delete", "delete an add-on's objects"),
    ):
        made = verbs.add_parser(verb, help=help)
        made.add_argument("name", nargs="+" if verb != "show" else 1, metavar="NAME", help=", ".join(ADDONS))
        made.add_argument("--kubeconfig", type=Path, help="the cluster (default: that of `tiphys up`, or $KUBECONFIG)")
        made.add_argument("--image", help=f"the components' image (default {COMPONENT_IMAGE})")
        made.add_argument("--cni-conf-dir", help="where the nodes' runtime looks for networks")
        made.add_argument("--bridge", help="the name of the pods' bridge")
        made.add_argument("--proxy-mode", help="the mode of kube-proxy")
        made.add_argument(
            "--load-balancer-pool",
            help="addresses for Services of type LoadBalancer: NETWORK or FIRST-LAST, commas between; node for the"
            " nodes' own (default)",
        )
        made.add_argument("--kubelet-insecure-tls", action="store_true", help="take any certificate of kubelets")
    return options


async def _run(arguments: argparse.Namespace) -> int:
    ours = Settings.load(arguments.data_dir.absolute()) if arguments.kubeconfig is None else None
    path = ours.kubeconfig("admin") if ours is not None else arguments.kubeconfig or kubeconfig.user_file()
    if ours is not None and arguments.verb == "apply" and "load-balancer" in arguments.name:
        _refuse_two_givers(ours)
    client = client_from_file(path, "tiphys")
    try:
        known = settings_of(ours) if ours is not None else await _read_settings(client, path)
        settings = _changed(known, arguments)
        _check_pool(settings)
        for name in arguments.name:
            await _act(client, arguments.verb, name, settings)
    finally:
        await client.close()
    return 0


def _refuse_two_givers(cluster: Settings) -> None:
    """Raises ``SettingsError`` if the cluster gives addresses to Services itself."""
    if cluster.load_balancer_pool != "none":
        raise SettingsError(
            "load-balancer: this cluster's own processes give addresses to Services; end that first, with `tiphys down`"
            " and `tiphys up --load-balancer-pool none`"
        )


def _check_pool(settings: AddonSettings) -> None:
    """Raises ``SettingsError``."""
    if settings.load_balancer_pool == "node":
        return
    try:
        parse_pool(settings.load_balancer_pool)
    except ValueError as error:
        flag = f"--load-balancer-pool={settings.load_balancer_pool}"
        raise SettingsError(f"{flag}: {error}; name ranges with commas between, or node") from error


async def _act(client: Client, verb: str, name: str, settings: AddonSettings) -> None:
    if verb == "show":
        print(addon_manifest(name, settings), end="")
    elif verb == "apply":
        objects = addon_objects(name, settings)
        await apply_objects(client, objects)
        for obj in objects:
            print(f"{obj['kind'].lower()}/{obj['metadata']['name']} applied")
    else:
        for deleted in await delete_objects(client, addon_objects(name, settings)):
            print(f"{deleted} deleted")


def apply_to(cluster: Settings, names: Sequence[str], console: Console) -> None:
    """Apply add-ons to a running cluster of `tiphys up`, with the image that their pods need."""
    if not names:
        return
    image.ensure_components(cluster, console)
    if "monitoring" in names:
        image.ensure_monitoring(cluster, console)
    with console.step(f"Applying {', '.join(names)}"):
        asyncio.run(_apply_all(cluster, names))


async def _apply_all(cluster: Settings, names: Sequence[str]) -> None:
    async with connected(cluster.kubeconfig("admin"), "tiphys") as client:
        for name in names:
            await apply_objects(client, addon_objects(name, settings_of(cluster)))


async def _read_settings(client: Client, path: Path) -> AddonSettings:
    """What the manifests leave open, of a cluster that `tiphys init` or kubeadm made: its ConfigMap kubeadm-config."""
    try:
        stored = await client.get(CONFIG_MAPS, "kubeadm-config", "kube-system")
    except NotFound as error:
        raise KubeconfigError(
            f"the cluster of {path} has no ConfigMap kube-system/kubeadm-config, which says what its networks are"
        ) from error
    document: dict[str, Any] = yamltext.load(stored["data"]["ClusterConfiguration"])
    networking = document.get("networking") or {}
    service_cidr = networking.get("serviceSubnet", "10.96.0.0/12").split(",")[0]
    return AddonSettings(
        image=COMPONENT_IMAGE,
        server=server_of(path),
        pod_cidr=networking.get("podSubnet", ""),
        dns_ip=network_address(service_cidr, 10),
        cluster_domain=networking.get("dnsDomain", "cluster.local"),
    )


def _changed(settings: AddonSettings, arguments: argparse.Namespace) -> AddonSettings:
    names = ("image", "cni_conf_dir", "bridge", "proxy_mode", "load_balancer_pool")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    signed = settings.kubelets_have_signed_certificates and not arguments.kubelet_insecure_tls
    return replace(settings, **given, kubelets_have_signed_certificates=signed)
