"""Which endpoints count from here: the cases of upstream's ``TestCategorizeEndpoints``.

An endpoint is written as a digit (its address), then ``@`` if it is on this node, ``>`` and the zones and nodes that it
has hints for, and ``!`` if it is not ready or ``~`` if it is terminating and still serves.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tiphys.proxy.endpoints import Endpoints, usable
from tiphys.proxy.state import Endpoint, Place, ServicePort

PORT = ServicePort("ns", "web", "", "tcp", "10.96.0.1", 80)
NODE_PORT = replace(PORT, node_port=8080)
PORTS = {
    "": PORT,
    "internal": replace(PORT, internal_local=True),
    "external, no port": replace(PORT, external_local=True),
    "internal, port": replace(NODE_PORT, internal_local=True),
    "external": replace(NODE_PORT, external_local=True),
    "both": replace(NODE_PORT, internal_local=True, external_local=True),
}


def endpoint(text: str) -> Endpoint:
    address, _, hints = text.rstrip("!~").partition(">")
    return Endpoint(
        address[0],
        80,
        local="@" in address,
        ready=text[-1] not in "!~",
        serving=text[-1] != "!",
        terminating=text[-1] == "~",
        zones=frozenset(filter(str.isalpha, hints)),
        nodes=frozenset(filter(str.isdigit, hints)),
    )


def addresses(found: Endpoints) -> str:
    return " ".join(sorted(one.ip for one in found))


HINTED = "3>a 4>b 5>c 6>a"
WITH_LOCAL = "3@>a 4@>b 5>c 6>a"
ON_NODES = "3>a1 4>b2 5>c3 6>a4"


@pytest.mark.parametrize(
    ("port", "place", "endpoints", "cluster", "local", "reachable", "anywhere"),
    [
        ("", "0a", HINTED, "3 6", "", "3 6", True),
        ("external", "0a", WITH_LOCAL, "3 6", "3 4", "3 4 6", True),
        ("internal, port", "0a", WITH_LOCAL, "3 6", "3 4", "3 4 6", True),
        ("", "0", "3>a", "3", "", "3", True),
        ("", "0b", "3>a", "3", "", "3", True),
        ("", "0a", "3>a 4>b 5>c 6>a!", "3", "", "3", True),
        ("", "0a", "3>a! 4>b 5>c 6>a!", "4 5", "", "4 5", True),
        ("", "0a", "3>a 4>b 5 6>a", "3 4 5 6", "", "3 4 5 6", True),
        ("", "0c", "3>abc 4>bc 5>bd 6>c", "3 4 6", "", "3 4 6", True),
        ("", "1a", ON_NODES, "3", "", "3", True),
        ("", "1a", "3>a1 4 5>c3 6>a4", "3 4 5 6", "", "3 4 5 6", True),
        ("", "0a", ON_NODES, "3 6", "", "3 6", True),
        ("external", "0a", "0@>a 1@>b 2>a 3>b", "0 2", "0 1", "0 1 2", True),
        ("internal", "0", "", "", "", "", False),
        ("internal", "0", "0 1", "", "", "", True),
        ("internal", "0", "0@ 1@", "", "0 1", "0 1", True),
        ("internal", "0", "0@ 1", "", "0", "0", True),
        ("", "0", "0! 1!", "", "", "", False),
        ("", "0", "0! 1", "1", "", "1", True),
        ("", "0", "0@~ 1~", "0 1", "", "0 1", True),
        ("internal, port", "0", "0@ 1", "0 1", "0", "0 1", True),
        ("external", "0", "0@ 1", "0 1", "0", "0 1", True),
        ("both", "0", "0@ 1", "0 1", "0", "0 1", True),
        ("both", "0", "0 1", "0 1", "", "0 1", True),
        ("both", "0", "0~ 1~", "0 1", "", "0 1", True),
        ("external", "0", "0 1@! 2@~ 3~", "0", "2", "0 2", True),
        ("external, no port", "0", "0 1@", "0 1", "", "0 1", True),
        ("internal", "0", "0 1@", "", "1", "1", True),
        ("", "0", "", "", "", "", False),
        ("", "0a", "0!", "", "", "", False),
    ],
)
def test_endpoints_by_policy_and_topology(
    port: str, place: str, endpoints: str, cluster: str, local: str, reachable: str, anywhere: bool
) -> None:
    found = usable(tuple(map(endpoint, endpoints.split())), PORTS[port], Place(place[0], place[1:]))
    assert (addresses(found.cluster), addresses(found.local)) == (cluster, local)
    assert (addresses(found.reachable), found.anywhere) == (reachable, anywhere)
