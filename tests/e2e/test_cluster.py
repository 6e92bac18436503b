"""From one command to a page served by pods behind a Service, on real parts, and away again.

The tests of this file run in order, on one cluster: each goes on from where the one before left it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.machine import NODE_IP, Machine, wait_for
from tiphys.cluster import images
from tiphys.cluster.ocilayout import build

pytestmark = pytest.mark.e2e

DEMO = "tiphys-demo"


def ready_pods(cluster: Machine) -> list[dict[str, Any]]:
    pods = cluster.get("pods", "-n", DEMO, "-l", "app=web")["items"]
    return [p for p in pods if not p["metadata"].get("deletionTimestamp") and is_ready(p)]


def is_ready(pod: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def containers(cluster: Machine) -> dict[str, tuple[str, int]]:
    """Each ready pod's container id and restart count."""
    found = {}
    for pod in ready_pods(cluster):
        (status,) = pod["status"]["containerStatuses"]
        found[pod["metadata"]["name"]] = (status["containerID"], status["restartCount"])
    return found


def one_pod(cluster: Machine) -> str:
    name: str = ready_pods(cluster)[0]["metadata"]["name"]
    return name


def service(cluster: Machine) -> dict[str, Any]:
    spec: dict[str, Any] = cluster.get("service", "web", "-n", DEMO)["spec"]
    return spec


def test_the_node_is_ready_and_the_context_is_merged(cluster: Machine) -> None:
    assert cluster.status()["ready"]
    assert cluster.kubectl("config", "current-context").strip() == "tiphys"
    (node,) = cluster.get("nodes")["items"]
    assert is_ready(node)
    assert re.search(r"Ready .*v1\.36", cluster.kubectl("get", "nodes"))


def test_what_the_cis_benchmark_names_is_roots_alone(cluster: Machine) -> None:
    """Sections 1.1 and 4.1: kubeconfigs, keys and certificates, the store, the network of the containers."""
    data = cluster.folder / "data"
    folders = [data, data / "etcd"]
    files = [*data.glob("*.conf"), *(data / "pki").rglob("*.*"), *(data / "etcd").iterdir(), *data.rglob("*.conflist")]
    assert {"admin.conf", "kubelet.conf", "ca.key", "10-tiphys.conflist"} <= {path.name for path in files}
    assert {path: oct(path.stat().st_mode & 0o777) for path in folders if path.stat().st_mode & 0o077} == {}
    assert {path: oct(path.stat().st_mode & 0o777) for path in files if path.stat().st_mode & 0o177} == {}


def test_a_second_up_costs_nothing_and_says_what_runs(cluster: Machine) -> None:
    before = cluster.components()
    assert "kube-apiserver" in cluster.tiphys("up", timeout=30).stdout
    assert {n: c["pid"] for n, c in cluster.components().items()} == {n: c["pid"] for n, c in before.items()}


def test_the_demo_prints_its_address_and_the_path_of_a_pod(cluster: Machine) -> None:
    done = cluster.tiphys("demo", timeout=150)
    assert "It works" in cluster.curl(done.stdout.strip())
    steps = [line.split()[0] for line in done.stderr.splitlines() if re.search(r"\d+ ms ", line)]
    assert steps == ["created", "scheduled", "bound", "sandbox", "started", "ready"]


def test_the_page_by_cluster_ip_by_node_port_and_by_name(cluster: Machine) -> None:
    spec = service(cluster)
    assert "It works" in cluster.curl(f"http://{spec['clusterIP']}/")
    assert "It works" in cluster.curl(f"http://{NODE_IP}:{spec['ports'][0]['nodePort']}/")
    for name in ("web", f"web.{DEMO}", f"web.{DEMO}.svc.cluster.local"):
        page = cluster.kubectl("exec", "-n", DEMO, one_pod(cluster), "--", "wget", "-qO-", f"http://{name}/")
        assert "It works" in page


def test_kubectl_shows_describes_and_explains(cluster: Machine) -> None:
    assert re.search(r"web +3/3 +3 +3", cluster.kubectl("get", "deployment", "-n", DEMO))
    assert "Successfully assigned" in cluster.kubectl("describe", "pod", "-n", DEMO, one_pod(cluster))
    assert "maxSurge" in cluster.kubectl("explain", "deployment.spec.strategy", "--recursive")
    assert "pods" in cluster.kubectl("api-resources")


def test_kubectl_creates_exposes_waits_and_deletes(cluster: Machine) -> None:
    """The verbs by which people meet a cluster; `create` sends protobuf."""
    cluster.kubectl("create", "namespace", "verbs")
    create = ("create", "deployment", "hello", "-n", "verbs", "--image=tiphys.local/demo:1", "--port=8080")
    cluster.kubectl(*create, "--", "httpd", "-f", "-p", "8080", "-h", "/etc")
    cluster.kubectl("expose", "deployment", "hello", "-n", "verbs", "--port=80", "--target-port=8080")
    cluster.kubectl("wait", "-n", "verbs", "deployment/hello", "--for=condition=Available", "--timeout=60s")
    address = cluster.get("service", "hello", "-n", "verbs")["spec"]["clusterIP"]
    wait_for(
        lambda: "root" in cluster.run("curl", "-s", f"http://{address}/passwd", check=False).stdout, 20, "the page"
    )
    cluster.kubectl("label", "deployment", "hello", "-n", "verbs", "tier=front")
    cluster.kubectl("annotate", "deployment", "hello", "-n", "verbs", "note=kept")
    patch = '{"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}'
    cluster.kubectl("patch", "deployment", "hello", "-n", "verbs", "-p", patch)
    cluster.kubectl("rollout", "status", "-n", "verbs", "deployment/hello", "--timeout=60s")
    assert "hello" in cluster.kubectl("get", "deployment", "-n", "verbs", "-l", "tier=front", "-o", "name")
    cluster.kubectl("delete", "namespace", "verbs", "--timeout=60s")


def test_images_are_imported_and_listed(cluster: Machine) -> None:
    archive = cluster.folder / "image.tar"
    archive.write_bytes(build(images.demo_image("example.com/mine:7")))
    cluster.tiphys("image", "import", str(archive))
    assert "example.com/mine:7" in cluster.tiphys("image", "list").stdout
    cluster.kubectl("run", "mine", "--image=example.com/mine:7", "--command", "--", "sleep", "1000")
    cluster.kubectl("wait", "pod/mine", "--for=condition=Ready", "--timeout=60s")
    cluster.kubectl("delete", "pod", "mine", "--now")


def test_a_pod_speaks_to_the_api_server_as_its_service_account(cluster: Machine) -> None:
    token = "/var/run/secrets/kubernetes.io/serviceaccount"
    words = ("exec", "-n", DEMO, one_pod(cluster), "--", "cat")
    header = f"Authorization: Bearer {cluster.kubectl(*words, f'{token}/token')}"
    authority = cluster.folder / "ca.crt"
    authority.write_text(cluster.kubectl(*words, f"{token}/ca.crt"))
    asked = ("--cacert", str(authority), "-H", header)
    review = cluster.run("curl", "-s", *asked, f"https://{NODE_IP}:6443/api/v1/namespaces/{DEMO}/pods").stdout
    assert f'User "system:serviceaccount:{DEMO}:default" cannot list resource' in json.loads(review)["message"]
    assert cluster.curl("https://10.96.0.1/readyz", *asked) == "ok"


def test_etcdctl_sees_what_kubectl_made(cluster: Machine) -> None:
    """A runbook's commands, with Debian's etcdctl and with ours, against the store inside the API server."""
    pki = cluster.folder / "data" / "pki"
    flags = (
        f"--endpoints=https://127.0.0.1:2379 --cacert={pki}/etcd/ca.crt "
        f"--cert={pki}/apiserver-etcd-client.crt --key={pki}/apiserver-etcd-client.key"
    ).split()
    key = f"/registry/configmaps/{DEMO}/page"
    tiphys = str(Path(sys.executable).parent / "tiphys")
    cluster.environment["ETCDCTL_API"] = "3"
    for tool in (["etcdctl"], [tiphys, "etcdctl"]):
        listed = cluster.run(*tool, *flags, "get", "/registry/", "--prefix", "--keys-only").stdout.split()
        assert key in listed
        assert "It works" in cluster.run(*tool, *flags, "get", key, "--print-value-only").stdout
        assert "is healthy" in "".join((done := cluster.run(*tool, *flags, "endpoint", "health")).stdout + done.stderr)
        snapshot = cluster.folder / f"{Path(tool[0]).name}.db"
        cluster.run(*tool, *flags, "snapshot", "save", snapshot)
        assert snapshot.stat().st_size > 10_000
    own = [*flags[:2], f"--cert={pki}/etcd/server.crt", f"--key={pki}/etcd/server.key"]
    assert cluster.run("etcdctl", *own, "endpoint", "status", "-w", "json").stdout
    refused = cluster.run("etcdctl", flags[0], flags[1], "--dial-timeout=2s", "get", key, check=False)
    assert refused.returncode != 0


PYTHON_CLIENT = """
from kubernetes import client, config, watch
config.load_kube_config()
core = client.CoreV1Api()
made = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="py"), data={"a": "1"})
core.create_namespaced_config_map("default", made)
core.patch_namespaced_config_map("py", "default", {"data": {"b": "2"}})
assert core.read_namespaced_config_map("py", "default").data == {"a": "1", "b": "2"}
seen = [e["type"] for e in watch.Watch().stream(core.list_namespaced_config_map, "default", timeout_seconds=1)]
assert "ADDED" in seen
assert client.AppsV1Api().list_namespaced_deployment("tiphys-demo").items[0].status.ready_replicas == 3
core.delete_namespaced_config_map("py", "default")
print("done")
"""


def test_the_official_python_client(cluster: Machine) -> None:
    assert cluster.run(sys.executable, "-c", PYTHON_CLIENT).stdout == "done\n"


def test_scale_up_and_back(cluster: Machine) -> None:
    for replicas in (5, 3):
        cluster.kubectl("scale", "-n", DEMO, "deployment/web", f"--replicas={replicas}")
        cluster.kubectl("rollout", "status", "-n", DEMO, "deployment/web", "--timeout=60s")
        wait_for(lambda n=replicas: len(cluster.get("pods", "-n", DEMO)["items"]) == n, what=f"{replicas} pods")


def test_exec_logs_and_port_forward(cluster: Machine) -> None:
    pod = one_pod(cluster)
    assert cluster.kubectl("exec", "-n", DEMO, pod, "--", "cat", "/www/index.html").startswith("<!doctype html>")
    echoed = cluster.kubectl("exec", "-i", "-n", DEMO, pod, "--", "cat", stdin="through and back\n")
    assert echoed == "through and back\n"
    failed = cluster.run("kubectl", "exec", "-n", DEMO, pod, "--", "sh", "-c", "exit 7", check=False)
    assert failed.returncode == 7
    assert_log_follows(cluster, pod)
    assert_port_forward(cluster, pod)
    assert_tails_arrive(cluster, pod, megabytes=10, runs=3)


SLOWLY = f"""{sys.executable} -c '
import sys, time
while data := sys.stdin.buffer.read(262144):
    sys.stdout.buffer.write(data)
    time.sleep(0.01)
'"""


def assert_tails_arrive(cluster: Machine, pod: str, *, megabytes: int, runs: int) -> None:
    """What a command writes last is not lost, whatever protocol kubectl speaks, and however slowly it is read."""
    make = f"head -c {megabytes * 1_000_000} /dev/urandom > /tmp/b; sha256sum < /tmp/b"
    digest = cluster.kubectl("exec", "-n", DEMO, pod, "--", "sh", "-c", make).split()[0]
    try:
        for websockets in ("false", "true"):
            call = f"KUBECTL_REMOTE_COMMAND_WEBSOCKETS={websockets} kubectl"
            for number in range(runs):
                read = SLOWLY if number % 2 else "cat"
                said = cluster.run("sh", "-c", f"{call} exec -n {DEMO} {pod} -- cat /tmp/b | {read} | sha256sum")
                assert said.stdout.split()[0] == digest, (websockets, number)
                copy = cluster.folder / "copied"
                cluster.run("sh", "-c", f"{call} cp {DEMO}/{pod}:/tmp/b {copy}")
                assert hashlib.sha256(copy.read_bytes()).hexdigest() == digest, (websockets, number)
    finally:
        cluster.kubectl("exec", "-n", DEMO, pod, "--", "rm", "-f", "/tmp/b")


def assert_log_follows(cluster: Machine, pod: str) -> None:
    """`logs -f` shows what is written after it was called."""
    said = cluster.folder / "followed"
    following = cluster.start("kubectl", "logs", "-f", "--tail=0", "-n", DEMO, pod, output=said)
    address = cluster.get("pod", pod, "-n", DEMO)["status"]["podIP"]

    def shows_request() -> bool:
        cluster.run("curl", "-s", f"http://{address}:8080/missing", check=False)
        return "response:404" in said.read_text()

    try:
        wait_for(shows_request, 20, "a line in the followed log")
    finally:
        following.terminate()
        following.wait()


def assert_port_forward(cluster: Machine, pod: str) -> None:
    forwarding = cluster.start("kubectl", "port-forward", "-n", DEMO, pod, "18080:8080")
    try:
        wait_for(
            lambda: "It works" in cluster.run("curl", "-s", "http://127.0.0.1:18080/", check=False).stdout,
            20,
            "the page through the forwarded port",
        )
    finally:
        forwarding.terminate()
        forwarding.wait()


PROBE = """
import json, sys, time, urllib.request
url, seconds = sys.argv[1], float(sys.argv[2])
good, bad = 0, []
end = time.monotonic() + seconds
while time.monotonic() < end:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            good += b"It works" in answer.read()
    except OSError as error:
        bad.append(repr(error))
    time.sleep(0.02)
print(json.dumps({"good": good, "bad": bad}))
"""


def test_a_rolling_update_fails_no_request(cluster: Machine) -> None:
    before = set(containers(cluster))
    url = f"http://{service(cluster)['clusterIP']}/"
    result: dict[str, Any] = {}

    def probe() -> None:
        result.update(json.loads(cluster.run(sys.executable, "-c", PROBE, url, "12").stdout))

    thread = threading.Thread(target=probe)
    thread.start()
    cluster.kubectl("set", "env", "-n", DEMO, "deployment/web", "COLOUR=green")
    cluster.kubectl("rollout", "status", "-n", DEMO, "deployment/web", "--timeout=60s")
    thread.join()
    assert result["bad"] == []
    assert result["good"] > 50
    wait_for(lambda: len(cluster.get("pods", "-n", DEMO)["items"]) == 3, what="the old pods' end")
    assert not before & set(containers(cluster))


def test_undo_brings_the_revision_before_back(cluster: Machine) -> None:
    assert cluster.kubectl("rollout", "history", "-n", DEMO, "deployment/web").count("\n") >= 3
    cluster.kubectl("rollout", "undo", "-n", DEMO, "deployment/web")
    cluster.kubectl("rollout", "status", "-n", DEMO, "deployment/web", "--timeout=60s")
    template = cluster.get("deployment", "web", "-n", DEMO)["spec"]["template"]
    assert "env" not in template["spec"]["containers"][0]


def test_a_killed_component_is_started_again_and_pods_run_on(cluster: Machine) -> None:
    wait_for(lambda: len(ready_pods(cluster)) == 3 == len(cluster.get("pods", "-n", DEMO)["items"]), what="three pods")
    before = containers(cluster)
    for name, component in cluster.components().items():
        cluster.kubectl("create", "configmap", f"before-{name}", "-n", DEMO)
        os.kill(component["pid"], signal.SIGKILL)
        wait_for(
            lambda n=name, p=component["pid"]: (
                cluster.components()[n]["state"] == "running" and cluster.components()[n]["pid"] != p
            ),
            60,
            f"{name} running again",
        )
        assert cluster.components()[name]["restarts"] == component["restarts"] + 1
        wait_for(lambda n=name: acknowledged(cluster, f"before-{n}"), 30, f"the object written before {name} died")
    wait_for(lambda: cluster.status()["ready"], 60, "the cluster's health")
    assert containers(cluster) == before
    assert "It works" in cluster.curl(f"http://{service(cluster)['clusterIP']}/")


def acknowledged(cluster: Machine, name: str) -> bool:
    return cluster.run("kubectl", "get", "configmap", name, "-n", DEMO, check=False).returncode == 0


def test_everything_killed_at_once_and_up_again(cluster: Machine) -> None:
    before = containers(cluster)
    cluster.kubectl("create", "configmap", "before-all", "-n", DEMO)
    found = cluster.status()
    for pid in [found["supervisor"], *(c["pid"] for c in found["components"].values())]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_for(lambda: not cluster.status()["running"], 30, "the end of all processes")
    cluster.tiphys("up", timeout=180)
    assert acknowledged(cluster, "before-all")
    wait_for(lambda: containers(cluster) == before, 30, "the same containers, not restarted")
    assert "It works" in cluster.curl(f"http://{service(cluster)['clusterIP']}/")


def test_down_keeps_the_data_and_up_brings_the_pods_back(cluster: Machine) -> None:
    cluster.tiphys("down", timeout=120)
    assert cluster.tiphys("status", check=False).returncode == 3
    cluster.tiphys("up", timeout=180)
    assert acknowledged(cluster, "before-all")
    wait_for(lambda: len(ready_pods(cluster)) == 3, 90, "three pods after down and up")
    wait_for(
        lambda: "It works" in cluster.run("curl", "-s", f"http://{service(cluster)['clusterIP']}/", check=False).stdout,
        30,
        "the page after down and up",
    )


def test_delete_takes_pods_rules_and_mounts_away(cluster: Machine) -> None:
    address = service(cluster)["clusterIP"]
    uids = {p["metadata"]["uid"] for p in cluster.get("pods", "-n", DEMO)["items"]}
    cluster.tiphys("demo", "--delete", timeout=120)
    assert cluster.run("kubectl", "get", "namespace", DEMO, check=False).returncode == 1
    wait_for(lambda: address not in cluster.run("nft", "list", "ruleset").stdout, 30, "the end of the Service's rules")
    wait_for(lambda: not any(uid in mounts() for uid in uids), 30, "the end of the pods' mounts")
    wait_for(lambda: not any(has_shim(uid) for uid in uids), 30, "the end of the pods' processes")


def mounts() -> str:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return file.read()


def has_shim(uid: str) -> bool:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return uid in listed


def test_reset_leaves_nothing(cluster: Machine) -> None:
    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: left, namespace: default}\n"
        "spec: {containers: [{name: c, image: 'tiphys.local/demo:1', command: [sleep, '1000']}]}\n"
    )
    cluster.kubectl("wait", "pod/left", "--for=condition=Ready", "--timeout=60s")
    data = str(cluster.folder / "data")
    cluster.tiphys("reset", "--yes", timeout=120)
    assert not (cluster.folder / "data").exists()
    assert data not in mounts()
    assert data not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert cluster.run("nft", "list", "ruleset").stdout.strip() == ""
    links = {link["ifname"] for link in json.loads(cluster.run("ip", "-j", "link").stdout)}
    assert links == {"lo", "eth0", "eth0-peer"}
    assert "tiphys" not in cluster.run("kubectl", "config", "get-contexts", "-o", "name", check=False).stdout
    deadline = time.monotonic() + 5
    while data in mounts() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert data not in mounts()
