"""`tiphys up --addons ingress`: Ingresses and HTTPRoutes of a real cluster, asked from the node by their hosts.

The tests of this file run in order, on one cluster.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine import NODE_IP, Machine, wait_for
from tests.machine import machine as new_machine
from tiphys.cluster.images import DEMO_IMAGE
from tiphys.wire.tls.selfsigned import make_certificate

pytestmark = pytest.mark.e2e

HOST = "shop.example"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machine]:
    with new_machine("tiphys-ing") as made:
        made.tiphys("up", "--bridge", "eing0", "--addons", "ingress", timeout=180)
        for name in ("one", "two"):
            made.apply(web(name))
        for name in ("one", "two"):
            made.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        yield made


def web(name: str) -> str:
    command = ["sh", "-c", f"mkdir -p /tmp/w/a/b && for d in . a a/b; do echo {name} > /tmp/w/$d/index.html; done;"]
    command[2] += " exec httpd -f -p 8080 -h /tmp/w"
    container = {"name": "web", "image": DEMO_IMAGE, "command": command}
    container["readinessProbe"] = {"httpGet": {"port": 8080}, "periodSeconds": 1}  # type: ignore[assignment]
    meta = {"name": name, "labels": {"app": name}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}
    service = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [pod, made("v1", "Service", name, service)]})


def made(version: str, kind: str, name: str, spec: Any, **more: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec, **more}


def ingress(name: str, *paths: tuple[str, str], host: str = HOST, **spec: Any) -> str:
    listed = [
        {"path": path, "pathType": "Prefix", "backend": {"service": {"name": to, "port": {"name": "http"}}}}
        for path, to in paths
    ]
    return json.dumps(
        made("networking.k8s.io/v1", "Ingress", name, {"rules": [{"host": host, "http": {"paths": listed}}], **spec})
    )


def ask(cluster: Machine, path: str = "/", host: str = HOST, *words: str) -> str:
    return cluster.run(
        "curl", "-sL", "--max-time", "3", "-H", f"Host: {host}", *words, f"http://{NODE_IP}{path}", check=False
    ).stdout.strip()


def test_an_ingress_of_the_default_class_is_served_and_shows_its_address(cluster: Machine) -> None:
    cluster.apply(ingress("shop", ("/", "one"), ("/a", "two")))
    wait_for(lambda: ask(cluster) == "one", 30, "the answer")
    assert ask(cluster, "/a/b/") == "two"
    assert "404" in ask(cluster, host="nobody.example")
    shown = wait_for(lambda: cluster.get("ingress", "shop")["status"].get("loadBalancer", {}).get("ingress"), 20, "it")
    assert shown == [{"ip": NODE_IP}]
    assert cluster.get("ingress", "shop")["spec"]["ingressClassName"] == "tiphys"
    status = cluster.status()
    assert {"haproxy", "ingress"} <= set(status["components"])


def test_a_certificate_is_served_for_its_host_and_changes_with_its_secret(cluster: Machine, tmp_path: Path) -> None:
    def pair(number: int) -> Path:
        certificate, key = make_certificate((HOST,))
        (tmp_path / f"{number}.crt").write_bytes(certificate)
        (tmp_path / f"{number}.key").write_bytes(key)
        return tmp_path / f"{number}.crt"

    def served(authority: Path) -> bool:
        resolve = f"{HOST}:443:{NODE_IP}"
        words = ["-s", "--max-time", "3", "--resolve", resolve, "--cacert", authority, f"https://{HOST}/"]
        return cluster.run("curl", *words, check=False).stdout.strip() == "one"

    first, second = pair(1), pair(2)
    cluster.kubectl("create", "secret", "tls", "shop", f"--cert={first}", f"--key={tmp_path}/1.key")
    tls = json.dumps({"spec": {"tls": [{"hosts": [HOST], "secretName": "shop"}]}})
    cluster.kubectl("patch", "ingress", "shop", "-p", tls)
    wait_for(lambda: served(first), 30, "the certificate")
    cluster.kubectl("delete", "secret", "shop")
    cluster.kubectl("create", "secret", "tls", "shop", f"--cert={second}", f"--key={tmp_path}/2.key")
    wait_for(lambda: served(second), 30, "the new certificate")


def test_a_broken_ingress_is_told_and_is_in_nobodys_way(cluster: Machine) -> None:
    cluster.kubectl("create", "namespace", "evil")
    bad = json.loads(ingress("bad", ("/", "gone"), host="evil.example", tls=[{"hosts": [HOST], "secretName": "gone"}]))
    bad["spec"]["rules"][0]["http"]["paths"].append(
        {
            "path": "/x\n  use_backend none if TRUE",
            "pathType": "ImplementationSpecific",
            "backend": {"service": {"name": "gone", "port": {"number": 80}}},
        }
    )
    cluster.kubectl("apply", "-n", "evil", "-f", "-", stdin=json.dumps(bad))
    cluster.kubectl("apply", "-n", "evil", "-f", "-", stdin=ingress("thief", ("/", "gone")))

    def events() -> str:
        return cluster.kubectl("get", "events", "-n", "evil", "-o", "custom-columns=M:.message", "--no-headers")

    wait_for(lambda: "default/shop has it already" in events(), 30, "the event of the thief")
    for part in ("service gone does not exist", "secret gone does not exist", "characters that a path"):
        wait_for(lambda part=part: part in events(), 20, part)
    assert ask(cluster) == "one"
    assert ask(cluster, "/", "evil.example", "-o", "/dev/null", "-w", "%{http_code}") == "503"
    cluster.kubectl("delete", "namespace", "evil", "--wait=false")


def test_changes_drop_no_request(cluster: Machine) -> None:
    stop, seen = threading.Event(), []

    def flow() -> None:
        while not stop.is_set():
            seen.append(ask(cluster))

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        for number in range(4):
            cluster.apply(ingress(f"more-{number}", ("/", "two"), host=f"more-{number}.example"))
            wait_for(lambda number=number: ask(cluster, host=f"more-{number}.example") == "two", 20, "the new host")
    finally:
        stop.set()
        thread.join()
    assert len(seen) > 10
    assert set(seen) == {"one"}


def test_another_class_is_somebody_elses(cluster: Machine) -> None:
    other = made("networking.k8s.io/v1", "IngressClass", "other", {"controller": "example.com/other"})
    cluster.apply(json.dumps(other))
    cluster.kubectl("patch", "ingress", "more-0", "-p", '{"spec": {"ingressClassName": "other"}}')
    wait_for(lambda: "404" in ask(cluster, host="more-0.example"), 20, "the other class to have it")


def crd(kind: str, plural: str, scope: str) -> str:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema, "subresources": {"status": {}}}
    group = "gateway.networking.k8s.io"
    spec = {"group": group, "scope": scope, "names": {"kind": kind, "plural": plural}, "versions": [version]}
    meta = {"name": f"{plural}.{group}", "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"}}
    return json.dumps(
        {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": meta, "spec": spec}
    )


def test_a_route_is_served_once_the_kinds_are_there(cluster: Machine) -> None:
    group = "gateway.networking.k8s.io/v1"
    kinds = (
        ("GatewayClass", "gatewayclasses", "Cluster"),
        ("Gateway", "gateways", "Namespaced"),
        ("HTTPRoute", "httproutes", "Namespaced"),
    )
    for kind in kinds:
        cluster.apply(crd(*kind))
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{kind[1]}.gateway.networking.k8s.io")
    cluster.apply(json.dumps(made(group, "GatewayClass", "tiphys", {"controllerName": "tiphys.io/gateway-haproxy"})))
    listeners = [{"name": "http", "protocol": "HTTP", "port": 80, "hostname": "*.gate.example"}]
    cluster.apply(json.dumps(made(group, "Gateway", "gate", {"gatewayClassName": "tiphys", "listeners": listeners})))
    rules = [
        {"backendRefs": [{"name": "one", "port": 80}]},
        {"matches": [{"path": {"type": "PathPrefix", "value": "/a"}}], "backendRefs": [{"name": "two", "port": 80}]},
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/old"}}],
            "filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": "new.example", "statusCode": 301}}],
        },
    ]
    cluster.apply(json.dumps(made(group, "HTTPRoute", "route", {"parentRefs": [{"name": "gate"}], "rules": rules})))
    wait_for(lambda: ask(cluster, host="x.gate.example") == "one", 40, "the route")
    assert ask(cluster, "/a/b/", host="x.y.gate.example") == "two"
    where = ("--max-redirs", "0", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}")
    assert ask(cluster, "/old/a?b", "x.gate.example", *where) == "301 http://new.example/old/a?b"
    status = wait_for(lambda: cluster.get("gateways", "gate").get("status"), 20, "the Gateway's status")
    assert status["addresses"] == [{"type": "IPAddress", "value": NODE_IP}]
    assert status["listeners"][0]["attachedRoutes"] == 1
    (parent,) = wait_for(lambda: cluster.get("httproutes", "route").get("status", {}).get("parents"), 20, "the route's")
    assert {c["type"]: c["status"] for c in parent["conditions"]} == {"Accepted": "True", "ResolvedRefs": "True"}
