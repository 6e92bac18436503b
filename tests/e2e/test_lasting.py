"""A cluster's whole life, as a new administrator sees it: made, hit, mended, saved, destroyed, and made again.

Three control planes with real etcd, and a worker, as namespaces of one machine. The tests of this file run in order, on
one cluster: each goes on from where the one before left it. ``pytest -m slow -s tests/e2e/test_lasting.py`` prints the
figures that docs/clusters.md has.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests import lastingcluster as lasting
from tests.kubeadmnode import Machines, Node, machines
from tests.machine import wait_for
from tiphys.cluster.kubeadm import images

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.etcd, pytest.mark.timeout(1200)]

LONGEST_OUTAGE = 10.0
"""Seconds until kubectl works again after the leader's death."""
REPLICAS = 4
WORKLOAD = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {REPLICAS}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: httpd
        image: tiphys.local/demo:1
        command: [httpd, -f, -p, "8080"]
        readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
      tolerations:
      - {{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}}
      - {{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
"""


@dataclass
class Life:
    """The machines, the one from which the administrator works, and what was measured."""

    machines: Machines
    desk: str = "w1"
    figures: list[tuple[str, str]] = field(default_factory=list)
    backup: bytes = b""
    service: str = ""

    def node(self, name: str) -> Node:
        return self.machines.nodes[name]

    def kubectl(self, *words: str, **options: object) -> str:
        return self.node(self.desk).kubectl(*words, **options)

    def get(self, *words: str) -> list[dict[str, object]]:
        items: list[dict[str, object]] = json.loads(self.kubectl("get", *words, "-o", "json"))["items"]
        return items

    def note(self, what: str, figure: str) -> None:
        self.figures.append((what, figure))

    def timed(self, condition: Callable[[], object], seconds: float, what: str) -> float:
        started = time.monotonic()
        wait_for(condition, seconds, what)
        return time.monotonic() - started

    def control_planes(self) -> list[Node]:
        return [self.node(name) for name in sorted(self.machines.nodes) if name.startswith("cp")]

    def add(self, name: str, authority: str, *, old: bool = False) -> float:
        """A new machine that joins; returns the seconds of its join. ``old``: with an older release's image."""
        node = self.machines.add(name)
        node.import_image()
        return lasting.join(node, authority, control_plane=name.startswith("cp"), old=old)

    def node_is_ready(self, name: str) -> bool:
        path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        return self.kubectl("get", "node", name, "-o", path) == "True"

    def let_pods_onto_control_planes(self) -> None:
        done = self.node(self.desk).run(
            *("kubectl", f"--kubeconfig={lasting.ADMIN}", "taint", "nodes", "--all"),
            "node-role.kubernetes.io/control-plane-",
            check=False,
        )
        assert "untainted" in done.stdout, done.stderr  # the worker has no such taint, which kubectl calls an error

    def ready_pods(self) -> list[str]:
        """The nodes of the Deployment's pods that are ready and not on their way out."""
        return [
            str(pod["spec"]["nodeName"])  # type: ignore[index]
            for pod in self.get("pods", "-l", "app=web")
            if "deletionTimestamp" not in pod["metadata"]  # type: ignore[operator]
            and any(
                c["type"] == "Ready" and c["status"] == "True"
                for c in pod["status"].get("conditions", [])  # type: ignore[attr-defined]
            )
        ]

    def serves(self, name: str) -> bool:
        """Whether the Service answers on a machine."""
        url = f"http://{self.service}/"
        done = self.node(name).run(
            "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "2", url, check=False
        )
        return done.stdout in ("200", "404")  # an empty folder: its server answers


@pytest.fixture(scope="module")
def life() -> Iterator[Life]:
    with machines("lasting") as made:
        life = Life(made)
        yield life
        width = max((len(what) for what, _ in life.figures), default=0)
        print("\n" + "\n".join(f"{what:{width}}  {figure}" for what, figure in life.figures))


def test_three_control_planes_and_a_worker(life: Life) -> None:
    first = life.machines.add("cp1")
    first.import_image()
    took = [f"init {lasting.init(first, old=True):.0f} s"]
    authority = lasting.pin(first)
    took += [f"{name} {life.add(name, authority, old=True):.0f} s" for name in ("cp2", "cp3", "w1")]
    lasting.let_administer(life.node("w1"), first)
    for name in life.machines.nodes:
        wait_for(lambda name=name: life.node_is_ready(name), 120, f"{name} to be ready")  # type: ignore[misc]
    members = json.loads(lasting.etcdctl(first, "member", "list", "-w", "json"))["members"]
    assert sorted(member["name"] for member in members) == ["cp1", "cp2", "cp3"]
    assert not any(member.get("isLearner") for member in members)
    life.note("init, and joins", ", ".join(took))


def test_no_api_server_was_restarted_while_it_joined(life: Life) -> None:
    """A further control plane's API server begins once its etcd member has a vote: it never finds none."""
    counts = {
        str(pod["metadata"]["name"]): sum(  # type: ignore[index]
            int(status["restartCount"])
            for status in pod["status"].get("containerStatuses", [])  # type: ignore[attr-defined]
        )
        for pod in life.get("pods", "-n", "kube-system", "-l", "component=kube-apiserver")
    }
    assert counts == {f"kube-apiserver-{name}": 0 for name in ("cp1", "cp2", "cp3")}


def test_a_deployment_with_a_service_runs(life: Life) -> None:
    """On the worker and on the control planes: where else would the pods of a dead worker go."""
    life.let_pods_onto_control_planes()
    life.kubectl("apply", "-f", "-", stdin=WORKLOAD)
    life.kubectl("rollout", "status", "deployment/web", "--timeout=120s", timeout=150)
    life.service = life.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    for name in life.machines.nodes:
        wait_for(lambda name=name: life.serves(name), 60, f"the Service on {name}")  # type: ignore[misc]


def test_an_upgrade_changes_every_node_and_the_workloads_run_on(life: Life) -> None:
    """``apply`` on the first control plane, ``node`` on each other machine."""
    assert images_of(life) == {lasting.OLD_IMAGE}
    before = sorted(containers_of(life))
    visits, stop = [], threading.Event()

    def visit() -> None:
        while not stop.wait(0.3):
            visits.append(life.serves("w1"))

    visitor = threading.Thread(target=visit)
    visitor.start()
    started = time.monotonic()
    try:
        said = life.node("cp1").tiphys("upgrade", "apply", "--yes", timeout=600).stdout
        assert "[upgrade] SUCCESS!" in said
        assert "apiserver-etcd-client" not in said or "renewed" in said
        for name in ("cp2", "cp3", "w1"):
            assert "[upgrade] SUCCESS!" in life.node(name).tiphys("upgrade", "node", timeout=600).stdout
    finally:
        stop.set()
        visitor.join()
    took = time.monotonic() - started
    assert images_of(life) == {images.ours()}
    assert sorted(containers_of(life)) == before
    assert all(visits)
    life.note(
        "an upgrade of all four nodes", f"{took:.0f} s; the Service answered {len(visits)} of {len(visits)} times"
    )


def images_of(life: Life) -> set[str]:
    """The images of the control planes' static pods."""
    pods = life.get("pods", "-n", "kube-system", "-l", f"component in ({','.join(lasting.COMPONENTS)})")
    return {str(pod["spec"]["containers"][0]["image"]) for pod in pods}  # type: ignore[index]


def containers_of(life: Life) -> list[str]:
    """The containers of the Deployment's pods."""
    return [
        str(status["containerID"])
        for pod in life.get("pods", "-l", "app=web")
        for status in pod["status"]["containerStatuses"]  # type: ignore[index]
    ]


def test_kubectl_works_again_soon_after_the_leaders_death(life: Life) -> None:
    leader = life.node(lasting.leaders(life.node("w1"))["kube-controller-manager"])
    lasting.lead_etcd(life.control_planes(), leader)
    assert lasting.etcd_leader(life.control_planes()) is leader
    outage = lasting.kill(life.machines, leader.name, life.node("w1"))
    life.note(
        "kill -9 of all on the node that leads etcd and the controllers",
        f"kubectl works again after {outage.answered:.1f} s, a hundred more writes after {outage.writing:.1f} s, "
        f"{len(outage.lost)} of {outage.acknowledged} acknowledged writes lost",
    )
    assert outage.lost == []
    assert outage.answered < LONGEST_OUTAGE
    took = life.timed(
        lambda: lasting.leaders(life.node("w1"))["kube-controller-manager"] != leader.name, 60, "another leader"
    )
    life.note("  another controller manager leads", f"{outage.writing + took:.0f} s after the death, at the latest")


def test_an_etcd_member_is_removed_and_added_again(life: Life) -> None:
    """The dead control plane: its member is voted out, its machine is reset, and joins again."""
    living = [node for node in life.control_planes() if node.pids()]
    dead = next(node for node in life.control_planes() if node not in living)
    listed = json.loads(lasting.etcdctl(living[0], "member", "list", "-w", "json"))["members"]
    member = next(one["ID"] for one in listed if one["name"] == dead.name)
    lasting.etcdctl(living[0], "member", "remove", f"{member:x}")
    life.kubectl("delete", "node", dead.name)
    dead.start_containerd()
    dead.tiphys("reset", "--force", "--cri-socket=unix:///run/containerd/containerd.sock")
    took = lasting.join(dead, lasting.pin(living[0]), control_plane=True)
    wait_for(lambda: life.node_is_ready(dead.name), 120, f"{dead.name} to be ready")
    listed = json.loads(lasting.etcdctl(living[0], "member", "list", "-w", "json"))["members"]
    assert sorted(one["name"] for one in listed) == ["cp1", "cp2", "cp3"]
    assert not any(one.get("isLearner") for one in listed)
    life.note("the dead machine, reset, joins again as a member", f"{took:.0f} s")


def test_the_pods_of_a_dead_worker_come_back_elsewhere(life: Life) -> None:
    life.let_pods_onto_control_planes()
    life.kubectl("rollout", "restart", "deployment/web")
    life.kubectl("rollout", "status", "deployment/web", "--timeout=120s", timeout=150)
    assert "w1" in life.ready_pods()
    worker = life.node("w1")
    life.desk = "cp1"
    worker.kill_everything()

    def elsewhere() -> bool:
        placed = life.ready_pods()
        return len(placed) == REPLICAS and "w1" not in placed

    took = life.timed(elsewhere, 180, "the worker's pods elsewhere")
    life.note("the pods of a dead worker run elsewhere", f"{took:.0f} s (grace 50 s, then their tolerations of 5 s)")
    wait_for(lambda: life.serves("cp2"), 30, "the Service without the worker")


def test_the_cluster_is_restored_on_fresh_machines(life: Life) -> None:
    """A backup, every machine destroyed, and others with other names and addresses in their place."""
    first = life.node("cp1")
    first.tiphys("backup", "/var/lib/saved.tar.gz")
    life.backup = first.file("/var/lib/saved.tar.gz").read_bytes()
    secrets = {str(s["metadata"]["uid"]) for s in life.get("configmaps", "-n", "default")}  # type: ignore[index]
    old = list(life.machines.nodes)
    for name in old:
        life.machines.remove(name)
        shutil.rmtree(life.machines.folder / name, ignore_errors=True)

    started = time.monotonic()
    fresh = life.machines.add("cp4")
    fresh.import_image()
    fresh.file("/var/lib/saved.tar.gz").write_bytes(life.backup)
    fresh.tiphys("restore", "/var/lib/saved.tar.gz")
    lasting.init(fresh, "--ignore-preflight-errors=DirAvailable--var-lib-etcd")
    life.desk = "cp4"
    life.kubectl("delete", "node", *old)
    authority = lasting.pin(fresh)
    for name in ("cp5", "w2"):
        life.add(name, authority)
    wait_for(lambda: len(life.ready_pods()) == REPLICAS, 180, "the workloads")
    for name in ("cp4", "w2"):
        wait_for(lambda name=name: life.serves(name), 60, f"the Service on {name}")  # type: ignore[misc]
    life.note("restored on fresh machines, the workloads answer", f"{time.monotonic() - started:.0f} s")
    assert secrets <= {str(s["metadata"]["uid"]) for s in life.get("configmaps", "-n", "default")}  # type: ignore[index]
    members = json.loads(lasting.etcdctl(fresh, "member", "list", "-w", "json"))["members"]
    assert len(members) == 2
