"""The add-ons in pods of the components' own image: what they do is done by nobody else on these clusters.

The tests of this file run in order, on one cluster: each goes on from where the one before left it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator

import pytest

from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine
from tiphys.addons.objects import ADDONS

pytestmark = pytest.mark.e2e

LOAD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: busy}
spec:
  selector: {matchLabels: {app: busy}}
  template:
    metadata: {labels: {app: busy}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: busy
        image: tiphys.local/demo:1
        command: [sh, -c, 'while [ ! -e /tmp/rest ]; do :; done; sleep 100000']
        resources: {requests: {cpu: 50m}, limits: {cpu: 100m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: busy}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: busy}
  minReplicas: 1
  maxReplicas: 3
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}}]
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
"""

RELAYED = {
    "kube-controller-manager": "workqueue_adds_total",
    "kube-scheduler": "scheduler_pending_pods",
    "kube-proxy": "kubeproxy_sync_proxy_rules_duration_seconds_count",
}
"""Components that listen on loopback, each with a metric of its own."""

WORKERS = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}}}
      annotations: {{prometheus.io/scrape: "true", prometheus.io/port: "8080"}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: tiphys.local/demo:1
        command: [sh, -c, 'mkdir -p /www; touch /www/metrics; exec httpd -f -p 8080 -h /www']
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: {name}}}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: {name}}}
  minReplicas: 1
  maxReplicas: 5
  metrics: [{metric}]
  behavior: {{scaleDown: {{stabilizationWindowSeconds: 0}}}}
---
"""
_TARGET = "target: {type: AverageValue, averageValue: %d}"
QUEUE = WORKERS.format(
    name="workers", metric="{type: Pods, pods: {metric: {name: jobs_running}, " + _TARGET % 3 + "}}"
) + WORKERS.format(
    name="queue",
    metric="{type: External, external: {metric: {name: queue_length, selector: {matchLabels: {topic: mail}}}, "
    + _TARGET % 10
    + "}}",
)


POOL = "198.18.0.240-198.18.0.241"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machine]:
    with new_machine("tiphys-addons") as made:
        without = ("--without", "kube-proxy,dns,metrics-server", "--load-balancer-pool", "none")
        made.tiphys("up", *without, timeout=180)
        made.tiphys("image", "import", timeout=240)
        yield made


def test_what_is_left_out_does_not_run(cluster: Machine) -> None:
    assert not {"kube-proxy", "dns", "metrics-server"} & set(cluster.components())
    refused = cluster.tiphys("up", "--without", "kubelet", check=False)
    assert refused.returncode == 2
    assert "kubelet cannot be left out" in refused.stderr


def test_the_addons_pods_run(cluster: Machine) -> None:
    cluster.tiphys("addon", "apply", *ADDONS, "--load-balancer-pool", POOL)
    for workload in ("ds/load-balancer", "ds/pod-network", "ds/kube-proxy", "deploy/coredns", "deploy/metrics-server"):
        cluster.kubectl("rollout", "status", "-n", "kube-system", workload, "--timeout=120s", timeout=130)


def test_services_are_proxied_and_names_are_answered(cluster: Machine) -> None:
    page = cluster.tiphys("demo", timeout=150).stdout.strip()
    assert "It works" in cluster.curl(page)
    inside = ("exec", "-n", "tiphys-demo", "deploy/web", "--")
    assert "It works" in cluster.kubectl(*inside, "wget", "-qO-", "http://web.tiphys-demo.svc.cluster.local/")
    assert "10.96.0.10" in cluster.kubectl(*inside, "cat", "/etc/resolv.conf")
    endpoints = cluster.get("endpointslices", "-n", "kube-system", "-l", "kubernetes.io/service-name=kube-dns")
    pods = cluster.get("pods", "-n", "kube-system", "-l", "k8s-app=kube-dns")["items"]
    answering = {a for s in endpoints["items"] for e in s["endpoints"] for a in e["addresses"]}
    assert answering == {pod["status"]["podIP"] for pod in pods}


def test_a_service_gets_an_address_that_the_node_has_and_answers_at(cluster: Machine) -> None:
    cluster.kubectl(
        "expose",
        "-n",
        "tiphys-demo",
        "deploy/web",
        "--name",
        "outside",
        "--type",
        "LoadBalancer",
        "--port",
        "80",
        "--target-port",
        "8080",
    )
    service = ("service", "-n", "tiphys-demo", "outside")
    (given,) = wait_for(lambda: cluster.get(*service)["status"]["loadBalancer"].get("ingress"), 30, "an address")
    assert given["ip"] in ("198.18.0.240", "198.18.0.241")

    def has_it() -> bool:
        return f" {given['ip']}/32 " in cluster.run("ip", "-4", "address", "show", "dev", "eth0").stdout

    wait_for(has_it, 30, "the address on the wire")
    assert "It works" in wait_for(lambda: cluster.run("curl", "-s", f"http://{given['ip']}/", check=False).stdout, 20)
    cluster.kubectl("delete", *service)
    wait_for(lambda: not has_it(), 20, "the address to be given back")


def test_top_shows_what_pods_use(cluster: Machine) -> None:
    def shown() -> str:
        done = cluster.run("kubectl", "top", "pods", "-n", "kube-system", check=False)
        return done.stdout if "metrics-server" in done.stdout else ""

    used = dict(re.findall(r"^(\S+?)-[^ ]*\s+\d+m\s+(\d+)Mi", wait_for(shown, 90, "figures of the pods"), re.MULTILINE))
    assert used.keys() == {"coredns", "dashboard", "kube", "load", "metrics", "pod"}
    assert int(used["metrics"]) < 40


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus: apt-get install prometheus")
def test_prometheus_scrapes_what_there_is(cluster: Machine) -> None:
    cluster.tiphys("up", "--addons", "monitoring", timeout=180)
    cluster.kubectl("rollout", "status", "-n", "monitoring", "deploy/prometheus", "--timeout=90s", timeout=100)
    api = "/api/v1/namespaces/monitoring/services/prometheus:web/proxy/api/v1"

    def health() -> dict[str, str]:
        done = cluster.run("kubectl", "get", "--raw", f"{api}/targets", check=False)
        shown = json.loads(done.stdout)["data"]["activeTargets"] if done.returncode == 0 else []
        found: dict[str, str] = {}
        for target in shown:  # one that is down is what a job shows
            job, health = target["labels"]["job"], target["health"]
            found[job] = health if found.get(job, "up") == "up" else found[job]
        return found

    jobs = ("apiserver", "cadvisor", "kubelet", "node-exporter", *RELAYED)
    wanted = dict.fromkeys(jobs, "up")
    wait_for(lambda: health() == wanted, 60, "all targets")
    rules = [
        rule
        for group in json.loads(cluster.kubectl("get", "--raw", f"{api}/rules"))["data"]["groups"]
        for rule in group["rules"]
    ]
    assert rules
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    for job, metric in RELAYED.items():
        query = f"query?query={metric}%7Bjob%3D%22{job}%22%7D"
        wait_for(
            lambda asked=query: json.loads(cluster.kubectl("get", "--raw", f"{api}/{asked}"))["data"]["result"],
            60,
            f"{metric} of {job}",
        )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus: apt-get install prometheus")
def test_autoscalers_follow_what_prometheus_has_seen(cluster: Machine) -> None:
    """A metric of the pods' own, and the same as an external metric of a queue."""
    cluster.kubectl("rollout", "status", "-n", "monitoring", "deploy/prometheus-adapter", "--timeout=90s", timeout=100)
    cluster.apply(QUEUE)
    cluster.kubectl("rollout", "status", "deploy/workers", "deploy/queue", "--timeout=60s", timeout=70)
    say(cluster, "workers", "jobs_running 8")
    wait_for(lambda: size(cluster, "workers") == 3, 120, "three workers")  # 8 of one, 3 for each
    say(cluster, "queue", 'queue_length{topic="mail"} 40')
    wait_for(lambda: size(cluster, "queue") == 4, 120, "four pods by the queue's length")
    say(cluster, "queue", 'queue_length{topic="mail"} 4')
    wait_for(lambda: size(cluster, "queue") == 1, 120, "one pod by the queue's length")
    served = json.loads(cluster.kubectl("get", "--raw", "/apis/custom.metrics.k8s.io/v1beta2"))["resources"]
    assert "pods/jobs_running" in {row["name"] for row in served}
    cluster.kubectl("delete", "deployment,hpa", "workers", "queue")


def say(cluster: Machine, name: str, line: str) -> None:
    """Let the first pod of a Deployment show a metric."""
    pod = cluster.get("pods", "-l", f"app={name}")["items"][0]["metadata"]["name"]
    cluster.kubectl("exec", pod, "--", "sh", "-c", f"echo '{line}' > /www/metrics")


def size(cluster: Machine, name: str) -> int:
    return int(cluster.get("deployment", name)["spec"]["replicas"])


@pytest.mark.slow
def test_a_deployment_grows_under_load_and_shrinks_without(cluster: Machine) -> None:
    cluster.apply(LOAD)
    wait_for(lambda: len(replicas(cluster)) == 3, 120, "three replicas")
    for pod in replicas(cluster):
        cluster.kubectl("wait", pod, "--for=condition=Ready", "--timeout=60s")
        cluster.kubectl("exec", pod, "--", "touch", "/tmp/rest")
    wait_for(lambda: len(replicas(cluster)) == 1, 120, "one replica")
    cluster.kubectl("delete", "deployment,hpa", "busy")


def replicas(cluster: Machine) -> list[str]:
    pods = cluster.get("pods", "-l", "app=busy")["items"]
    return [f"pod/{pod['metadata']['name']}" for pod in pods if not pod["metadata"].get("deletionTimestamp")]


def test_of_a_cluster_by_init_the_networks_are_read_from_its_configmap(cluster: Machine) -> None:
    show = ("addon", "show", "coredns", "--kubeconfig", cluster.folder / "data/admin.conf")
    refused = cluster.tool(*show, check=False)
    assert "has no ConfigMap kube-system/kubeadm-config, which says what its networks are" in refused.stderr
    document = "networking: {serviceSubnet: 10.77.0.0/16, podSubnet: 10.78.0.0/16, dnsDomain: example.test}"
    create = ("create", "configmap", "kubeadm-config", "-n", "kube-system")
    cluster.kubectl(*create, f"--from-literal=ClusterConfiguration={document}")
    shown = cluster.tool(*show).stdout
    assert "clusterIP: 10.77.0.10" in shown
    assert "kubernetes example.test in-addr.arpa" in shown


def test_an_addon_is_deleted_whole(cluster: Machine) -> None:
    deleted = cluster.tiphys("addon", "delete", "metrics-server").stdout.split()
    assert "apiservice/v1beta1.metrics.k8s.io" in deleted
    left = cluster.kubectl("get", "deploy,svc,sa,role,rolebinding", "-n", "kube-system", "-o", "name")
    assert "metrics-server" not in left
