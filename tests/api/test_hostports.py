"""Which host ports a pod takes, and when two of them collide: for the scheduler and the kubelet alike."""

from __future__ import annotations

import pytest

from tiphys.api.object import Object
from tiphys.api.pods.hostports import HostPort, collides, host_ports


def container(*ports: Object, **more: str) -> Object:
    return {"name": "c", "ports": list(ports), **more}


def test_sidecars_take_ports_and_other_init_containers_do_not() -> None:
    spec = {
        "containers": [container({"hostPort": 80}, {"containerPort": 1}), {"name": "none"}],
        "initContainers": [
            container({"hostPort": 81, "protocol": "UDP"}, restartPolicy="Always"),
            container({"hostPort": 82}),
        ],
        "ephemeralContainers": [container({"hostPort": 83})],
    }
    assert host_ports(spec) == (("0.0.0.0", "TCP", 80), ("0.0.0.0", "UDP", 81))
    assert host_ports({}) == ()


@pytest.mark.parametrize(
    ("wanted", "used", "collide"),
    [
        (("0.0.0.0", "TCP", 80), ("0.0.0.0", "TCP", 80), True),
        (("0.0.0.0", "TCP", 80), ("10.0.0.1", "TCP", 80), True),
        (("10.0.0.1", "TCP", 80), ("0.0.0.0", "TCP", 80), True),
        (("10.0.0.1", "TCP", 80), ("10.0.0.1", "TCP", 80), True),
        (("10.0.0.1", "TCP", 80), ("10.0.0.2", "TCP", 80), False),
        (("0.0.0.0", "TCP", 80), ("0.0.0.0", "UDP", 80), False),
        (("0.0.0.0", "TCP", 80), ("0.0.0.0", "TCP", 81), False),
    ],
)
def test_collisions(wanted: HostPort, used: HostPort, collide: bool) -> None:
    assert collides([wanted], [used]) is collide
    assert collides([used], [wanted]) is collide
    assert not collides([], [used])
