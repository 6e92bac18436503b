"""`tiphys dns`: the cluster's DNS server on one node."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiphys.client.kubeconfig import SERVICE_ACCOUNT, connected
from tiphys.dns import corefile
from tiphys.dns.askers import Askers
from tiphys.dns.config import DNSConfig
from tiphys.dns.server import DNSServer
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import CannotStart, Ready, launch, read_file, whenever
from tiphys.runtime.flags import FlagParser

HEALTH_ADDRESS = "127.0.0.1:10054"


def main(argv: Sequence[str]) -> int:
    return launch(_parser(), argv, _run)


def _parser() -> FlagParser:
    """The parser of the DNS server's flags."""
    parser = FlagParser("dns", "Answers for the names of services and pods, and forwards everything else.")
    add = parser.add_argument
    add("--kubeconfig", type=Path, default=SERVICE_ACCOUNT, help="how to reach the API server (default: as this pod)")
    add("--address", help="the address to listen on: this node's")
    add("--port", type=int, default=10053, help="the port to listen on, UDP and TCP")
    add("--conf", "-conf", type=Path, help="a Corefile; what it says goes before the flags, and it publishes nothing")
    add("--node-name", default=socket.gethostname().lower(), help="this node's name")
    add("--cluster-domain", default="cluster.local", help="the domain to answer for")
    add("--service-ip", default="10.96.0.10", help="the ClusterIP of Service kube-system/kube-dns")
    parser.add_bool("--publish", default=True, help="make that Service lead here")
    add("--upstream", action="append", default=[], help="a server to ask for other names; may be given several times")
    add("--resolv-conf", default="/etc/resolv.conf", help="names those servers where --upstream is not given")
    add(
        "--recursion-for",
        action="append",
        default=[],
        metavar="CIDR",
        help="a network whose questions about other names are answered, too, besides this node's: that of the pods;"
        " may be given several times; 0.0.0.0/0 and ::/0 for everybody",
    )
    add("--healthz-bind-address", default=HEALTH_ADDRESS, help="where /healthz is served; empty turns it off")
    parser.add_verbosity()
    return parser


def _run(flags: argparse.Namespace) -> Coroutine[Any, Any, None]:
    if flags.address is None and flags.conf is None:
        raise CannotStart("--address is needed, or a Corefile by --conf")
    config = DNSConfig(
        node_name=flags.node_name,
        address=flags.address or "0.0.0.0",
        port=flags.port,
        cluster_domain=flags.cluster_domain,
        service_ip=flags.service_ip,
        publish=flags.publish,
        resolver_file=flags.resolv_conf,
        upstreams=tuple(flags.upstream),
        recursion_for=tuple(flags.recursion_for),
        health_address=flags.healthz_bind_address,
        flags=_parser().values(flags),
    )
    if flags.conf is not None:
        config = _with_corefile(config, flags.conf)
    try:
        Askers(config.recursion_for, SystemClock())
    except ValueError as error:
        raise CannotStart(f"--recursion-for: {error}") from error
    return run(config, flags.kubeconfig)


def _with_corefile(config: DNSConfig, path: Path) -> DNSConfig:
    """In a pod, only what reaches the pod network reaches the server: it answers everybody, as CoreDNS."""
    fields = corefile.parse(read_file(path).decode())
    everybody = config.recursion_for or ("0.0.0.0/0", "::/0")
    return replace(config, publish=False, recursion_for=everybody, health_address="", **fields)


async def run(config: DNSConfig, kubeconfig: Path, ready: Ready = whenever) -> None:
    """Make a DNS server and run it until it is cancelled; ``ready`` is called once it answers."""
    async with connected(kubeconfig, "dns") as client:
        await DNSServer(config, client, SystemClock()).run(ready)
