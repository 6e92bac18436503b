"""A node of a cloud: what its kubelet says of it, and what it leaves to the cloud's controllers."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.world import NODE, World, play
from tiphys.kubelet.command import configuration, parser
from tiphys.kubelet.config import KubeletConfig
from tiphys.runtime.flags import FlagError

PLACE = f"/api/v1/nodes/{NODE}"
TAINT = {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"}
PROVIDED = "alpha.kubernetes.io/provided-node-ip"
OWN = [{"type": "InternalIP", "address": "192.0.2.10"}, {"type": "Hostname", "address": NODE}]


def of_cloud(config: KubeletConfig) -> None:
    config.external_cloud = True


def without_addresses(config: KubeletConfig) -> None:
    config.external_cloud, config.node_ips = True, ()


def test_a_clouds_node_waits_for_it_and_says_which_address_it_insists_on(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        node = world.api.objects[PLACE]
        assert node["spec"]["taints"] == [TAINT]
        assert node["metadata"]["annotations"][PROVIDED] == "192.0.2.10"
        assert node["status"]["addresses"] == OWN, "until the cloud has said others"

    play(tmp_path, scene, adjust=of_cloud)


def test_a_node_that_was_given_no_address_has_its_name_only(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        node = world.api.objects[PLACE]
        assert PROVIDED not in node["metadata"]["annotations"]
        assert node["status"]["addresses"] == [{"type": "Hostname", "address": NODE}]

    play(tmp_path, scene, adjust=without_addresses)


@pytest.mark.parametrize(("adjust", "kept"), [(of_cloud, True), (lambda _: None, False)])
def test_addresses_of_the_cloud_stay_as_long_as_the_node_is_the_clouds(tmp_path: Path, adjust: Any, kept: bool) -> None:
    async def scene(world: World) -> None:
        node = copy.deepcopy(world.api.objects[PLACE])
        given = [*OWN, {"type": "ExternalIP", "address": "203.0.113.5"}]
        node["status"]["addresses"] = given
        world.api.put("/api/v1/nodes", node)
        await asyncio.sleep(330)
        assert world.api.objects[PLACE]["status"]["addresses"] == (given if kept else OWN)

    play(tmp_path, scene, adjust=adjust)


def test_a_node_that_is_known_is_not_tainted_again(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        node = copy.deepcopy(world.api.objects[PLACE])
        node["spec"] = {"providerID": "local://n"}
        node["metadata"]["annotations"] = {PROVIDED: "192.0.2.99"}
        world.api.put("/api/v1/nodes", node)
        await world.stop()
        world.kubelet = world.new_kubelet()
        await world.start()
        again = world.api.objects[PLACE]
        assert "taints" not in again["spec"]
        assert again["metadata"]["annotations"][PROVIDED] == "192.0.2.10", "what it insists on now"

    play(tmp_path, scene, adjust=of_cloud)


def test_flags() -> None:
    def read(*words: str) -> KubeletConfig:
        return configuration(parser().parse([*words, "--kubeconfig=x", "--hostname-override=n"]))[0]

    found = read("--cloud-provider=external", "--provider-id=aws:///z/i-1")
    assert (found.external_cloud, found.provider_id) == (True, "aws:///z/i-1")
    assert read("--cloud-provider=").external_cloud is False
    with pytest.raises(FlagError, match="was removed"):
        read("--cloud-provider=aws")
