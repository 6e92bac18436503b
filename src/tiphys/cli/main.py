"""`tiphys`: finds the subcommand and hands over. Each is imported only when it is called."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from tiphys import KUBERNETES_VERSION, __version__
from tiphys.cli.importing import uncollected

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("tiphys.cli.up", "Start a cluster on this machine, or say that it runs"),
    "down": ("tiphys.cli.down", "Stop the cluster and keep its data"),
    "status": ("tiphys.cli.status", "Show the cluster's processes and its node"),
    "reset": ("tiphys.cli.reset", "Stop the cluster and remove everything that it made"),
    "node": ("tiphys.cli.node", "Add, list, stop, start, cut off and delete further nodes on this machine"),
    "init": ("tiphys.cli.kubeadm.init", "Set up a control plane that lasts, in kubeadm's phases"),
    "join": ("tiphys.cli.kubeadm.join", "Join this machine to a cluster, as a worker or a control plane"),
    "upgrade": ("tiphys.cli.kubeadm.upgrade", "Make a control plane one of this Tiphys, in place"),
    "token": ("tiphys.cli.kubeadm.token", "Make, list and delete the tokens by which machines join"),
    "certs": ("tiphys.cli.kubeadm.certs", "Check, renew and request the certificates of a control plane"),
    "kubeconfig": ("tiphys.cli.kubeadm.kubeconfig", "Write a kubeconfig for another user"),
    "config": ("tiphys.cli.kubeadm.config", "Print and check the configuration of init, join and reset"),
    "logs": ("tiphys.cli.logs", "Show a component's log"),
    "dashboard": ("tiphys.cli.observe.dashboard", "Open the dashboard in a browser, as the user of a kubeconfig"),
    "top": ("tiphys.cli.observe.top", "Show nodes, pods, requests, queues and events, live in the terminal"),
    "demo": ("tiphys.cli.demo", "Deploy a web page behind a Service, and show the path of a pod"),
    "image": ("tiphys.cli.image", "Import or list container images"),
    "backup": ("tiphys.cli.backup", "Put the whole cluster into one file: store, certificates, configuration"),
    "restore": ("tiphys.cli.restore", "Make a cluster out of such a file, on this or another machine"),
    "doctor": ("tiphys.cli.doctor", "Look at this host, and say what to mend"),
    "install": ("tiphys.cli.install", "Let a node, or single components, start with the machine: systemd units"),
    "addon": ("tiphys.cli.kubeadm.addon", "List, show, apply and delete what runs in the cluster's own pods"),
    "torture": ("tiphys.cli.develop.torture", "Kill the cluster's processes under churn, and see that nothing is lost"),
    "envtest": ("tiphys.cli.envtest", "Make the folder of programs that KUBEBUILDER_ASSETS names"),
    "check": ("tiphys.cli.develop.check", "Check format, lint, imports and types (in a checkout)"),
    "test": ("tiphys.cli.develop.test", "Run the project's test suite (in a checkout)"),
}

COMPONENTS: dict[str, tuple[str, str]] = {
    "kube-apiserver": ("tiphys.apiserver.command", "The API server, with upstream's flags"),
    "kube-controller-manager": ("tiphys.controllers.command", "The controllers"),
    "cloud-controller-manager": ("tiphys.cloud.command", "The controllers of a cloud"),
    "kube-scheduler": ("tiphys.scheduler.command", "The scheduler"),
    "kubelet": ("tiphys.kubelet.command", "The node's agent"),
    "kube-proxy": ("tiphys.proxy.command", "The service proxy"),
    "csi-controller": ("tiphys.csi.command", "The controllers that go with any CSI driver"),
    "csi-local": ("tiphys.csi.local.command", "Volumes on a node's own disk: the driver and its controllers"),
    "csi-cloud": ("tiphys.addons.csicloud.command", "Disks of a cloud: the driver and its controllers"),
    "dns": ("tiphys.dns.command", "The cluster's DNS server"),
    "coredns": ("tiphys.dns.command", "The same by CoreDNS's name, for its manifests: -conf Corefile"),
    "pod-network": (
        "tiphys.cluster.networking.podnetwork",
        "A node's pod network: CNI configuration, routes, policies",
    ),
    "load-balancer": (
        "tiphys.cluster.networking.loadbalancers",
        "Addresses for Services of type LoadBalancer, without a cloud",
    ),
    "metrics-server": ("tiphys.addons.metricsserver.command", "What nodes and containers use, as an aggregated API"),
    "metrics-relay": ("tiphys.addons.monitoring.relay", "Metrics of a node's components that listen on loopback"),
    "prometheus-adapter": (
        "tiphys.addons.prometheusadapter.command",
        "Metrics of Prometheus for autoscalers: custom.metrics and external.metrics",
    ),
    "cluster-autoscaler": (
        "tiphys.addons.autoscaler.command",
        "Adds nodes for pods that wait for room, and removes empty ones",
    ),
    "dashboard-server": ("tiphys.addons.dashboard.command", "The dashboard in a cluster, as whoever logs in"),
    "prometheus-targets": ("tiphys.addons.monitoring.command", "What Prometheus is to scrape, for the one in its pod"),
    "virtual-address": (
        "tiphys.cluster.networking.virtualaddress",
        "One address that leads to a working control plane",
    ),
    "etcd": ("tiphys.store.command", "The store alone, serving etcd's API"),
    "etcdctl": ("tiphys.store.etcdctl", "etcd's command-line client"),
}


def script() -> NoReturn:
    """The installed command. Ends without taking the interpreter down object by object if nothing else runs in it.

    After `tiphys up` that would take 70 ms, and copy what the daemon shares with this process.
    """
    status = main()
    with contextlib.suppress(BrokenPipeError):  # whoever read has what it wanted
        sys.stdout.flush()
        if threading.active_count() == 1:
            os._exit(status)
    sys.exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status: 2 for an unknown command, 130 after an interrupt."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    name, rest = words[0], words[1:]
    if name in ("version", "--version"):
        print(f"tiphys {__version__} (Kubernetes {KUBERNETES_VERSION})")
        return 0
    entry = COMMANDS.get(name) or COMPONENTS.get(name)
    if entry is None:
        print(f"tiphys: unknown command {name!r}\n\n{usage()}", file=sys.stderr)
        return 2
    if os.geteuid() != 0 and (status := _relayed(name, rest)) is not None:
        return status
    try:
        with uncollected():
            command = import_module(entry[0])
        status = command.main(rest)
    except KeyboardInterrupt:
        return 130
    return int(status or 0)


def _relayed(name: str, rest: Sequence[str]) -> int | None:
    from tiphys.cli import rootless

    return rootless.relay(name, rest)


def usage() -> str:
    def table(rows: dict[str, tuple[str, str]]) -> str:
        return "\n".join(f"  {name:24} {text}" for name, (_, text) in rows.items())

    return (
        f"tiphys {__version__}: Kubernetes {KUBERNETES_VERSION}, whole, in Python\n\n"
        f"usage: tiphys COMMAND [flags]      (tiphys COMMAND --help lists its flags)\n\n"
        f"cluster:\n{table(COMMANDS)}\n\ncomponents:\n{table(COMPONENTS)}"
    )


if __name__ == "__main__":
    sys.exit(main())
