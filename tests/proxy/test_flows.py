"""Who reaches which endpoints, and as whom: upstream's ``TestInternalExternalMasquerade``, by real packets.

Three Services of type LoadBalancer with a local and a remote endpoint each: one as it is, one with
``externalTrafficPolicy: Local``, one with ``internalTrafficPolicy: Local``. A pod, the node and a client outside ask
each by its ClusterIP, its node port and its balancer's address, in each mode whose rules are the kernel's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.proxy.lab import CLIENT, OUTSIDE_ROUTER, PODS, Lab, lab
from tests.proxy.objects import endpoint, service, slice_of
from tests.proxy.test_packets import BACKENDS, Node, _node, options
from tiphys.proxy.modes import Mode

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft"),
]

ASKER = "10.244.0.4"
SERVICES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("plain", {}),
    ("eTP:Local", {"externalTrafficPolicy": "Local"}),
    ("iTP:Local", {"internalTrafficPolicy": "Local"}),
)


@dataclass(frozen=True)
class Seen:
    """Which endpoints answer, and whether they see another address than the sender's."""

    by: frozenset[str]
    masked: bool


_LOCAL, _BOTH = frozenset({"pod0"}), frozenset({"pod0", "pod1"})
LOCAL, LOCAL_MASKED = Seen(_LOCAL, masked=False), Seen(_LOCAL, masked=True)
BOTH, BOTH_MASKED = Seen(_BOTH, masked=False), Seen(_BOTH, masked=True)
BASE = {
    ("pod", "ClusterIP", "plain"): BOTH,
    ("pod", "NodePort", "plain"): BOTH_MASKED,
    ("pod", "LB", "plain"): BOTH_MASKED,
    ("node", "ClusterIP", "plain"): BOTH_MASKED,
    ("node", "NodePort", "plain"): BOTH_MASKED,
    ("node", "LB", "plain"): BOTH_MASKED,
    ("external", "ClusterIP", "plain"): BOTH_MASKED,
    ("external", "NodePort", "plain"): BOTH_MASKED,
    ("external", "LB", "plain"): BOTH_MASKED,
    ("pod", "ClusterIP", "eTP:Local"): BOTH,
    ("pod", "NodePort", "eTP:Local"): BOTH,
    ("pod", "LB", "eTP:Local"): BOTH,
    ("node", "ClusterIP", "eTP:Local"): BOTH_MASKED,
    ("node", "NodePort", "eTP:Local"): BOTH_MASKED,
    ("node", "LB", "eTP:Local"): BOTH_MASKED,
    ("external", "ClusterIP", "eTP:Local"): BOTH_MASKED,
    ("external", "NodePort", "eTP:Local"): LOCAL,
    ("external", "LB", "eTP:Local"): LOCAL,
    ("pod", "ClusterIP", "iTP:Local"): LOCAL,
    ("pod", "NodePort", "iTP:Local"): BOTH_MASKED,
    ("pod", "LB", "iTP:Local"): BOTH_MASKED,
    ("node", "ClusterIP", "iTP:Local"): LOCAL_MASKED,
    ("node", "NodePort", "iTP:Local"): BOTH_MASKED,
    ("node", "LB", "iTP:Local"): BOTH_MASKED,
    ("external", "ClusterIP", "iTP:Local"): LOCAL_MASKED,
    ("external", "NodePort", "iTP:Local"): BOTH_MASKED,
    ("external", "LB", "iTP:Local"): BOTH_MASKED,
}
UNMASKED = {
    (who, "ClusterIP", name): LOCAL if name == "iTP:Local" else BOTH
    for who in ("node", "external")
    for name, _ in SERVICES
}
"""Whoever asks a ClusterIP may be a pod, if pods cannot be told from others."""
MASKED = {("pod", "ClusterIP", name): replace(BASE["pod", "ClusterIP", name], masked=True) for name, _ in SERVICES}
NO_SHORTCUT = {("pod", how, "eTP:Local"): LOCAL for how in ("NodePort", "LB")}
"""Nor is there a way past the balancer for pods."""
CASES = {
    "base": (False, True, BASE),
    "pods are not known": (False, False, BASE | UNMASKED | NO_SHORTCUT),
    "masqueradeAll": (True, True, BASE | MASKED),
    "masqueradeAll, pods are not known": (True, False, BASE | MASKED | NO_SHORTCUT),
}


@pytest.fixture(scope="module")
def net() -> Iterator[Lab]:
    with lab() as built:
        for number, pod in enumerate(built.pods):
            built.serve_tcp(pod, 8080, f"pod{number}")
        built.add_pod(ASKER, "fd00:10:244::4")
        yield built


@pytest.fixture(scope="module", params=[(mode, case) for mode in BACKENDS for case in CASES], ids=" ".join)
def node(net: Lab, request: pytest.FixtureRequest) -> Iterator[tuple[Node, str]]:
    mode: Mode
    mode, case = request.param
    everybody, pods_known, _ = CASES[case]
    made = replace(options(mode, "ip"), masquerade_all=everybody)
    if not pods_known:
        made = replace(made, from_pod="", not_from_pod="")
    with contextmanager(_node)(net, mode) as built:
        built.backend = BACKENDS[mode](made, built.clock, net.run)
        for number, (name, spec) in enumerate(SERVICES, 1):
            name = name.lower().replace(":", "-")
            status = {"loadBalancer": {"ingress": [{"ip": f"203.0.113.{number}"}]}}
            described = {"type": "LoadBalancer", "node_port": 30000 + number, "status": status, **spec}
            built.has(
                service(name, f"10.96.0.{40 + number}", **described),
                slice_of(endpoint(PODS[0]), endpoint(PODS[1], node="remote"), name=name),
            )
        yield built, case


@pytest.mark.parametrize(("who", "how", "name"), BASE, ids=" ".join)
def test_who_reaches_whom_and_as_whom(net: Lab, node: tuple[Node, str], who: str, how: str, name: str) -> None:
    expected = CASES[node[1]][2][who, how, name]
    number = 1 + [service for service, _ in SERVICES].index(name)
    address, port = {
        "ClusterIP": (f"10.96.0.{40 + number}", 80),
        "NodePort": (OUTSIDE_ROUTER, 30000 + number),
        "LB": (f"203.0.113.{number}", 80),
    }[how]
    namespace, sender = {"pod": (net.pods[2], ASKER), "node": (net.node, ""), "external": (net.client, CLIENT)}[who]
    asked = [net.ask(namespace, address, port) for _ in range(3)]
    while {server for server, _ in asked} != expected.by and len(asked) < 60:
        asked.append(net.ask(namespace, address, port))
    assert {server for server, _ in asked} == expected.by
    if sender:  # the node's address is the same, masked or not
        assert {seen != sender for _, seen in asked} == {expected.masked}
