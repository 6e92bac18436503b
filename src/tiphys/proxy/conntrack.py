"""Forgets UDP flows to endpoints that are gone.

The kernel keeps a flow's rewritten destination for as long as packets come, so a client that keeps sending UDP from one
port (a resolver, say) would talk to a pod that is gone, for ever. TCP connections end by themselves.

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tiphys.proxy.state import Family, ServiceState
from tiphys.runtime.system import hosttools
from tiphys.runtime.system.hosttools import Run

_FIELD = re.compile(r"\b(src|dst|sport|dport)=(\S+)")


@dataclass(frozen=True, slots=True)
class Flow:
    """One tracked UDP flow: where it was sent, and who answers."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    answers_from: str
    answers_port: int


def parse(listing: str) -> Iterator[Flow]:
    """The flows in the output of ``conntrack -L -p udp``: each line has the fields of both directions, in order."""
    for line in listing.splitlines():
        values: dict[str, list[str]] = {}
        for name, value in _FIELD.findall(line):
            values.setdefault(name, []).append(value)
        if all(len(values.get(name, ())) >= 2 for name in ("src", "dst", "sport", "dport")):
            yield Flow(
                values["src"][0],
                int(values["sport"][0]),
                values["dst"][0],
                int(values["dport"][0]),
                values["src"][1],
                int(values["sport"][1]),
            )


def stale(flows: Iterable[Flow], services: Iterable[ServiceState]) -> list[Flow]:
    """The flows to a UDP service's addresses that are answered by none of its serving endpoints.

    A service without endpoints keeps its flows: they may come back.
    """
    by_address: dict[tuple[str, int], set[tuple[str, int]]] = {}
    by_node_port: dict[int, set[tuple[str, int]]] = {}
    for state in services:
        for backends in state:
            port = backends.port
            serving = {endpoint.address for endpoint in backends.endpoints if endpoint.serving}
            if port.protocol != "udp" or not serving:
                continue
            for ip in (port.cluster_ip, *port.external_ips, *port.load_balancer_ips):
                by_address[ip, port.port] = serving
            if port.node_port:
                by_node_port[port.node_port] = serving
    return [flow for flow in flows if _is_stale(flow, by_address, by_node_port)]


def _is_stale(
    flow: Flow, by_address: dict[tuple[str, int], set[tuple[str, int]]], by_node_port: dict[int, set[tuple[str, int]]]
) -> bool:
    answers = (flow.answers_from, flow.answers_port)
    for serving in (
        by_address.get((flow.destination, flow.destination_port)),
        by_node_port.get(flow.destination_port),
    ):
        if serving is not None and answers not in serving:
            return True
    return False


async def clean(family: Family, services: Iterable[ServiceState], run: Run = hosttools.run) -> int:
    """Delete the stale flows of one family; returns how many there were. Raises ``CommandError``."""
    wanted = [state for state in services if any(backends.port.protocol == "udp" for backends in state)]
    if not wanted:
        return 0
    option = "ipv4" if family == "ip" else "ipv6"
    flows = stale(parse(await run(("conntrack", "-L", "-f", option, "-p", "udp"), "")), wanted)
    for flow in flows:
        await run(_deletion(option, flow), "")
    return len(flows)


def _deletion(option: str, flow: Flow) -> tuple[str, ...]:
    original = ("-s", flow.source, "--sport", str(flow.source_port), "-d", flow.destination)
    return ("conntrack", "-D", "-f", option, "-p", "udp", *original, "--dport", str(flow.destination_port))
