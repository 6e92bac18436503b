"""The add-ons' manifests: whole, known to those who apply them, and with nothing left open."""

from __future__ import annotations

import base64
import json

import pytest

from tiphys.addons.apply import RESOURCES
from tiphys.addons.hosted import metrics_server_objects
from tiphys.addons.objects import ADDONS, MONITORING_IMAGE, AddonSettings, UnknownAddon, addon_manifest, addon_objects

SETTINGS = AddonSettings(
    image="example.com/tiphys:1", server="https://192.0.2.1:6443", pod_cidr="10.244.0.0/16", dns_ip="10.96.0.10"
)


@pytest.mark.parametrize("name", ADDONS)
def test_a_manifest_has_nothing_left_open(name: str) -> None:
    text = addon_manifest(name, SETTINGS)
    assert "${" not in text
    assert "$$" not in text
    objects = addon_objects(name, SETTINGS)
    assert {obj["kind"] for obj in objects} <= RESOURCES.keys()
    assert len({(obj["kind"], obj["metadata"]["name"], obj["metadata"].get("namespace")) for obj in objects}) == len(
        objects
    )
    images = [c["image"] for obj in objects if "template" in obj.get("spec", {}) for c in containers(obj)]
    theirs = {MONITORING_IMAGE} if name == "monitoring" else set()
    assert set(images) == {"example.com/tiphys:1"} | theirs


def containers(workload: dict) -> list[dict]:  # type: ignore[type-arg]
    found: list[dict] = workload["spec"]["template"]["spec"]["containers"]  # type: ignore[type-arg]
    return found


def test_the_kubelet_fills_in_the_nodes_name() -> None:
    (proxy,) = [obj for obj in addon_objects("kube-proxy", SETTINGS) if obj["kind"] == "DaemonSet"]
    assert "--hostname-override=$(NODE_NAME)" in containers(proxy)[0]["command"]


def test_kubelets_that_sign_for_themselves_are_believed_only_if_the_cluster_has_no_better() -> None:
    def trust(**more: bool) -> str:
        settings = AddonSettings(image="i", server="s", pod_cidr="p", dns_ip="d", **more)  # type: ignore[arg-type]
        return json.dumps(addon_objects("metrics-server", settings))

    assert "--kubelet-insecure-tls" not in trust()
    assert "--kubelet-insecure-tls" in trust(kubelets_have_signed_certificates=False)


def test_an_unknown_addon_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        UnknownAddon, match=r"'flannel'.*kube-proxy, coredns, pod-network, load-balancer, metrics-server"
    ):
        addon_objects("flannel", SETTINGS)


def test_on_the_node_the_metrics_server_is_behind_the_same_service() -> None:
    objects = metrics_server_objects(SETTINGS, address="192.0.2.1", port=4443, authority=b"PEM")
    by_kind = {obj["kind"]: obj for obj in objects}
    assert "Deployment" not in by_kind
    assert "selector" not in by_kind["Service"]["spec"]
    assert by_kind["EndpointSlice"]["endpoints"][0]["addresses"] == ["192.0.2.1"]
    assert base64.b64decode(by_kind["APIService"]["spec"]["caBundle"]) == b"PEM"
    assert "insecureSkipTLSVerify" not in by_kind["APIService"]["spec"]
