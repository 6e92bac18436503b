"""How much of the node's swap a container may have, by upstream's rows (KEP-2400)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.world import container, pod
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.configfile import apply_file
from tiphys.kubelet.configz import describe
from tiphys.kubelet.container.resources import linux_resources
from tiphys.kubelet.container.swap import LIMITED_SWAP, NO_SWAP, SwapControl
from tiphys.kubelet.node.machine import limits_swap, read_machine
from tiphys.kubelet.node.status import NodeFacts, node_status
from tiphys.runtime.component import ConfigError

GI = 1 << 30
UNIFIED = SwapControl(LIMITED_SWAP, unified=True, capacity=5 * GI, memory=40 * GI)
BURSTABLE: tuple[dict[str, Any], ...] = ({"requests": {"memory": "1Gi"}}, {"requests": {"memory": "2Gi"}})
WHOLE = {"memory": "2Gi", "cpu": "1"}
ONE_OF_FORTY = str(5 * GI // 40)


@pytest.mark.parametrize(
    ("control", "resources", "spec", "expected"),
    [
        (UNIFIED, BURSTABLE, {}, [ONE_OF_FORTY, str(5 * GI // 20)]),
        (UNIFIED, (BURSTABLE[0], {}), {}, [ONE_OF_FORTY, "0"]),
        (
            UNIFIED,
            (BURSTABLE[0], {"requests": {"memory": "2Gi"}, "limits": {"memory": "2Gi"}}),
            {},
            [ONE_OF_FORTY, "0"],
        ),
        (UNIFIED, (BURSTABLE[0], {"requests": {"memory": "2Gi"}, "limits": {"memory": "4Gi"}}), {}, None),
        (UNIFIED, BURSTABLE, {"priority": 2_000_000_000}, ["0", "0"]),
        (UNIFIED, ({}, {}), {}, ["0", "0"]),
        (UNIFIED, ({"requests": WHOLE, "limits": WHOLE},) * 2, {}, ["0", "0"]),
        (UNIFIED, ({"requests": {"memory": "41Gi"}}, BURSTABLE[0]), {}, ["0", ONE_OF_FORTY]),
        (replace(UNIFIED, behavior=NO_SWAP), BURSTABLE, {}, ["0", "0"]),
        (replace(UNIFIED, behavior=""), BURSTABLE, {}, ["0", "0"]),
        (replace(UNIFIED, capacity=0), BURSTABLE, {}, ["0", "0"]),
    ],
)
def test_the_share_of_a_container(
    control: SwapControl, resources: tuple[dict[str, Any], ...], spec: dict[str, Any], expected: list[str] | None
) -> None:
    containers = [container(f"c{number}", resources=each) for number, each in enumerate(resources)]
    wanted = pod("p", *containers, **spec)
    found = [linux_resources(wanted, each, 40 * GI, swap=control)["unified"] for each in containers]
    shares = expected or [ONE_OF_FORTY, str(5 * GI // 20)]
    assert found == [{"memory.swap.max": share} for share in shares]


@pytest.mark.parametrize("behavior", ["", NO_SWAP, LIMITED_SWAP])
def test_with_version_1_of_cgroups_nothing_is_left_beyond_the_limit(behavior: str) -> None:
    control = replace(UNIFIED, unified=False, behavior=behavior)
    limited = container("main", resources={"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}})
    found = linux_resources(pod("p", limited), limited, 40 * GI, swap=control)
    assert found["memory_swap_limit_in_bytes"] == found["memory_limit_in_bytes"] == 2 * GI
    free = linux_resources(pod("p"), container("main"), 40 * GI, swap=control)
    assert "memory_swap_limit_in_bytes" not in free
    assert "unified" not in found


def test_without_a_controller_nothing_is_said_of_swap() -> None:
    limited = container("main", resources={"limits": {"memory": "2Gi"}})
    found = linux_resources(pod("p", limited), limited, 40 * GI)
    assert not found.keys() & {"memory_swap_limit_in_bytes", "unified"}


def test_whether_the_nodes_cgroups_limit_swap(tmp_path: Path) -> None:
    own = tmp_path / "self"
    own.write_text("0::/system.slice/kubelet.service\n")
    assert not limits_swap(tmp_path, own)
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.memsw.limit_in_bytes").touch()
    assert limits_swap(tmp_path, own)
    (tmp_path / "cgroup.controllers").touch()
    assert not limits_swap(tmp_path, own)
    (tmp_path / "system.slice/kubelet.service").mkdir(parents=True)
    (tmp_path / "system.slice/kubelet.service/memory.swap.max").touch()
    assert limits_swap(tmp_path, own)
    assert not limits_swap(tmp_path, tmp_path / "none")


def _configured(text: str) -> KubeletConfig:
    config = KubeletConfig("node", Path("/nowhere"))
    apply_file(config, f"kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\n{text}", "file")
    return config


def test_the_behaviour_is_configured_and_shown() -> None:
    config = _configured("memorySwap: {swapBehavior: LimitedSwap}")
    assert config.swap_behavior == LIMITED_SWAP
    assert describe(config)["memorySwap"] == {"swapBehavior": LIMITED_SWAP}
    assert describe(_configured("memorySwap: {}"))["memorySwap"] == {}
    with pytest.raises(ConfigError, match='swapBehavior "Unlimited" must be one of: "", "LimitedSwap" or "NoSwap"'):
        _configured("memorySwap: {swapBehavior: Unlimited}")
    with pytest.raises(ConfigError, match="unknown field size"):
        _configured("memorySwap: {size: 1}")


def test_the_node_says_how_much_swap_it_has(tmp_path: Path) -> None:
    machine = read_machine(tmp_path)

    def shown(swap: int) -> object:
        facts = NodeFacts("n", replace(machine, swap=swap), (), "containerd://1")
        return node_status(facts, {}, "2026-01-01T00:00:00Z")["nodeInfo"].get("swap")

    assert shown(0) is None
    assert shown(4096) == {"capacity": 4096}
