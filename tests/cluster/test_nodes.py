"""Further nodes: names and addresses, and which serving certificates are approved."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tiphys.cluster import nodes
from tiphys.cluster.containerd import CNI_FILE, PodNetwork, write_network
from tiphys.cluster.networking.nodenetwork import bridge_name, port
from tiphys.cluster.settings import Settings, SettingsError
from tiphys.cluster.tlsbootstrap import is_own_serving, new_token, signing_request


def cluster(tmp_path: Path, **values: Any) -> Settings:
    return Settings(data_dir=tmp_path, run_dir=tmp_path, node_name="one", node_ip="192.0.2.2").changed(**values)


def test_as_many_names_are_made_as_nodes_are_missing(tmp_path: Path) -> None:
    assert nodes.new_names(cluster(tmp_path), 3, []) == ["node-2", "node-3"]
    assert nodes.new_names(cluster(tmp_path), 3, ["node-3"]) == ["node-2"]
    assert nodes.new_names(cluster(tmp_path), 2, ["a", "b"]) == []


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a/../b", "x" * 64])
def test_a_name_that_no_node_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="cannot be a node's name"):
        nodes.define(cluster(tmp_path), name, [])


def test_a_name_is_given_once(tmp_path: Path) -> None:
    made = nodes.define(cluster(tmp_path), "two", [])
    for name in ("one", "two"):
        with pytest.raises(SettingsError, match="already"):
            nodes.define(cluster(tmp_path), name, [made])


def test_a_node_has_its_own_folders_and_an_address_of_the_wire(tmp_path: Path) -> None:
    first = nodes.define(cluster(tmp_path), "two", [])
    second = nodes.define(cluster(tmp_path), "three", [first])
    assert (first.node_ip, second.node_ip) == ("10.243.0.2", "10.243.0.3")
    assert first.data_dir != second.data_dir
    assert first.server == "https://192.0.2.2:6443"
    first.save()
    assert nodes.further_nodes(cluster(tmp_path)) == {"two": first}


def test_a_node_gets_no_address_that_a_load_balancer_may_have(tmp_path: Path) -> None:
    pooled = cluster(tmp_path).changed(load_balancer_pool="10.243.0.2-10.243.0.9")
    assert nodes.define(pooled, "two", []).node_ip == "10.243.0.10"


def test_a_full_wire_takes_no_more_nodes(tmp_path: Path) -> None:
    small = cluster(tmp_path, node_cidr="10.243.0.0/30")
    with pytest.raises(SettingsError, match="no address left"):
        nodes.define(small, "three", [nodes.define(small, "two", [])])


def test_names_of_interfaces_fit_the_kernel(tmp_path: Path) -> None:
    for bridge in ("tiphys0", "fifteen-letters"):
        settings = cluster(tmp_path, bridge=bridge)
        assert len(bridge_name(settings)) <= 15
        assert len(port(settings, "a-name-longer-than-any-interface")) <= 15
        assert bridge_name(settings) != bridge


def test_a_token_has_the_form_that_the_api_server_knows() -> None:
    name, _, secret = new_token().partition(".")
    assert (len(name), len(secret)) == (6, 16)


def request(user: str, names: tuple[str, str], *, subject: str = "system:node:two") -> dict[str, Any]:
    csr = signing_request(subject, names, ec.generate_private_key(ec.SECP256R1()))
    return {"spec": {"username": user, "request": base64.b64encode(csr).decode()}}


def test_a_node_may_serve_as_itself_and_as_nobody_else() -> None:
    own = request("system:node:two", ("two", "10.243.0.2"))
    assert is_own_serving(own, "two", ["10.243.0.2"])
    for foreign in (
        request("system:node:three", ("two", "10.243.0.2")),
        request("system:node:two", ("kubernetes", "10.243.0.2")),
        request("system:node:two", ("two", "192.0.2.2")),
        request("system:node:two", ("two", "10.243.0.2"), subject="system:node:three"),
        {"spec": {"username": "system:node:two", "request": "bm9uZQ=="}},
    ):
        assert not is_own_serving(foreign, "two", ["10.243.0.2"])


def test_a_network_configuration_of_somebody_elses_is_respected(tmp_path: Path) -> None:
    network = PodNetwork(("10.244.1.0/24",))
    assert write_network(tmp_path, network)
    (tmp_path / "99-other.conflist").write_text("{}")
    assert not write_network(tmp_path, network)
    assert [file.name for file in tmp_path.iterdir()] == ["99-other.conflist"]
    (tmp_path / "99-other.conflist").unlink()
    assert write_network(tmp_path, network)
    assert (tmp_path / CNI_FILE).exists()
