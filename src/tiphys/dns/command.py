"""`tiphys dns`: the cluster's DNS server on one node."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from tiphys.client.kubeconfig import KubeconfigError, client_from_file
from tiphys.dns.askers import Askers
from tiphys.dns.config import DNSConfig
from tiphys.dns.server import DNSServer
from tiphys.runtime import logs
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.flags import FlagParser
from tiphys.runtime.process import run_until_signal


def main(argv: Sequence[str]) -> int:
    parser = FlagParser("dns", "Answers for the names of services and pods, and forwards everything else.")
    add = parser.add_argument
    add("--kubeconfig", type=Path, required=True, help="how to reach the API server")
    add("--address", required=True, help="the address to listen on: this node's")
    add("--port", type=int, default=10053, help="the port to listen on, UDP and TCP")
    add("--node-name", default=socket.gethostname().lower(), help="this node's name")
    add("--cluster-domain", default="cluster.local", help="the domain to answer for")
    add("--service-ip", default="10.96.0.10", help="the ClusterIP of Service kube-system/kube-dns")
    parser.add_bool("--publish", True, "make that Service lead here")
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
    add("-v", "--v", type=int, default=0, help="verbosity of logs, 0 to 10")
    flags = parser.parse(argv)
    config = DNSConfig(
        node_name=flags.node_name,
        address=flags.address,
        port=flags.port,
        cluster_domain=flags.cluster_domain,
        service_ip=flags.service_ip,
        publish=flags.publish,
        resolver_file=flags.resolv_conf,
        upstreams=tuple(flags.upstream),
        recursion_for=tuple(flags.recursion_for),
    )
    logs.configure(flags.v)
    try:
        Askers(config.recursion_for, SystemClock())
    except ValueError as error:
        parser.error(f"--recursion-for: {error}")
    try:
        run_until_signal(_run(config, flags.kubeconfig))
    except KubeconfigError as error:
        parser.error(str(error))
    return 0


async def _run(config: DNSConfig, kubeconfig: Path) -> None:
    client = client_from_file(kubeconfig, "dns")
    try:
        await DNSServer(config, client, SystemClock()).run()
    finally:
        await client.close()
