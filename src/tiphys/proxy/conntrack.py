"""Forgets UDP flows to endpoints that are gone, and TCP connections that were never answered.

The kernel keeps a flow's rewritten destination for as long as packets come, so a client that keeps sending UDP from one
port (a resolver, say) would talk to a pod that is gone, for ever. TCP connections end by themselves, but for those that
an endpoint on a dead node did not answer: for two minutes the kernel sends whoever connects from the same port there
again, and a busy client has used its ports once around in one.

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tiphys.proxy.state import Family, ServiceState
from tiphys.runtime.system import hosttools
from tiphys.runtime.system.hosttools import CommandError, Run

_FIELD = re.compile(r"\b(src|dst|sport|dport)=(\S+)")


@dataclass(frozen=True, slots=True)
class Flow:
    """One tracked flow: where it was sent, and who answers."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    answers_from: str
    answers_port: int


def parse(listing: str) -> Iterator[Flow]:
    """The flows in the output of ``conntrack -L``: each line has the fields of both directions, in order."""
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


_SELECTED: dict[str, tuple[str, ...]] = {"udp": (), "tcp": ("--state", "SYN_SENT")}
"""Which flows of a protocol are looked at."""


def unserving(state: ServiceState) -> bool:
    """Whether connections to a service may have been sent to an endpoint that does not answer any more."""
    return any(
        backends.port.protocol == "tcp" and any(not endpoint.serving for endpoint in backends.endpoints)
        for backends in state
    )


def stale(flows: Iterable[Flow], services: Iterable[ServiceState], protocol: str = "udp") -> list[Flow]:
    """The flows of a protocol to a service's addresses that are answered by none of its serving endpoints.

    A service without endpoints keeps its flows: they may come back.
    """
    by_address: dict[tuple[str, int], set[tuple[str, int]]] = {}
    by_node_port: dict[int, set[tuple[str, int]]] = {}
    for state in services:
        for backends in state:
            port = backends.port
            serving = {endpoint.address for endpoint in backends.endpoints if endpoint.serving}
            if port.protocol != protocol or not serving:
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


async def clean(
    family: Family, services: Iterable[ServiceState], run: Run = hosttools.run, protocol: str = "udp"
) -> int:
    """Delete the stale flows of one family; returns how many there were. Raises ``CommandError``."""
    wanted = [state for state in services if any(backends.port.protocol == protocol for backends in state)]
    if not wanted:
        return 0
    common = ("-f", "ipv4" if family == "ip" else "ipv6", "-p", protocol)
    flows = stale(parse(await run(("conntrack", "-L", *common, *_SELECTED[protocol]), "")), wanted, protocol)
    for flow in flows:
        with contextlib.suppress(CommandError):  # answered or gone meanwhile
            await run(("conntrack", "-D", *common, *_SELECTED[protocol], *_original(flow)), "")
    return len(flows)


def _original(flow: Flow) -> tuple[str, ...]:
    ports = ("--sport", str(flow.source_port), "--dport", str(flow.destination_port))
    return ("-s", flow.source, "-d", flow.destination, *ports)
