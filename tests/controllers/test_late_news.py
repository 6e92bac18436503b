"""Controllers that learn of everything late, in another order and twice: what upstream promises holds all the same.

Every run has a seed, which is printed; ``TIPHYS_SEEDS=40 pytest tests/controllers/test_late_news.py`` tries so many.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.controllers.watchman import Watchman, is_active, is_ready
from tiphys.api.object import Object
from tiphys.client.informer import Callbacks, Informer
from tiphys.client.resources import NODES
from tiphys.testing import Cluster, LateNews

FIRST = int(os.environ.get("TIPHYS_FIRST_SEED", "1"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("TIPHYS_SEEDS", "2")))


def template(app: str, *, ready: bool = True, version: str = "1", **annotations: str) -> Object:
    how = {"tiphys.dev/ready": "true" if ready else "false", **{f"tiphys.dev/{k}": v for k, v in annotations.items()}}
    return {
        "metadata": {"labels": {"app": app}, "annotations": {"version": version, **how}},
        "spec": {"containers": [{"name": "c", "image": "example"}], "terminationGracePeriodSeconds": 2},
    }


def workload(kind: str, name: str, **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name), **spec},
    }


def play(seed: int, scenario: Callable[[Cluster, Watchman, random.Random], None], nodes: int = 3) -> None:
    print("seed", seed)
    late = LateNews(seconds=3.0)
    with Cluster(nodes=nodes, seed=seed, late_news=late) as cluster:

        async def make() -> Watchman:
            return Watchman(cluster)

        watchman = cluster.run(make())
        scenario(cluster, watchman, random.Random(seed))
        assert watchman.broken == []


def rolled_out(cluster: Cluster, name: str) -> bool:
    found = cluster.get("apps/v1", "Deployment", name)
    assert found is not None
    status, wanted = found.get("status", {}), found["spec"]["replicas"]
    return status.get("observedGeneration") == found["metadata"]["generation"] and all(
        status.get(field, 0) == wanted for field in ("replicas", "updatedReplicas", "availableReplicas")
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_deployments(seed: int) -> None:
    """Scaled, broken, mended and rolled back in mid-rollout, as in a bad release."""

    def scenario(cluster: Cluster, watchman: Watchman, rng: random.Random) -> None:
        strategy = {"rollingUpdate": {"maxSurge": rng.randint(0, 3), "maxUnavailable": rng.randint(1, 3)}}
        service = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
        cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": service})
        cluster.create(workload("Deployment", "web", replicas=rng.randint(2, 10), strategy=strategy))
        cluster.wait_until(lambda: rolled_out(cluster, "web"), timeout=300)
        for number in range(8):
            change: Object = {}
            if rng.random() < 0.6:
                change["replicas"] = rng.randint(1, 15)
            if rng.random() < 0.6:
                change["template"] = template("web", ready=rng.random() < 0.5, version=str(rng.randint(1, 3)))
            cluster.patch("apps/v1", "Deployment", "web", {"spec": change})
            cluster.run_for(rng.uniform(0, 20) if number % 3 else 60)
        cluster.patch("apps/v1", "Deployment", "web", {"spec": {"template": template("web")}})
        cluster.wait_until(lambda: rolled_out(cluster, "web"), timeout=600)
        cluster.wait_until(lambda: endpoints_agree(cluster), timeout=120)

    play(seed, scenario)


def endpoints_agree(cluster: Cluster) -> bool:
    """At rest a Service's slices have the addresses of its ready pods, each once."""
    slices = cluster.list(
        "discovery.k8s.io/v1", "EndpointSlice", "default", label_selector="kubernetes.io/service-name=web"
    )
    endpoints = [e for s in slices for e in s["endpoints"] or () if e["conditions"]["ready"]]
    pods = [
        pod
        for pod in cluster.list("v1", "Pod", "default", label_selector="app=web")
        if is_ready(pod) and is_active(pod)
    ]
    return sorted(e["targetRef"]["name"] for e in endpoints) == sorted(pod["metadata"]["name"] for pod in pods)


@pytest.mark.parametrize("seed", SEEDS)
def test_stateful_sets(seed: int) -> None:
    def scenario(cluster: Cluster, watchman: Watchman, rng: random.Random) -> None:
        cluster.create(workload("StatefulSet", "db", replicas=3, serviceName="db"))
        for _ in range(8):
            change: Object = {}
            if rng.random() < 0.6:
                change["replicas"] = rng.randint(0, 5)
            if rng.random() < 0.5:
                change["template"] = template("db", version=str(rng.randint(1, 3)))
            cluster.patch("apps/v1", "StatefulSet", "db", {"spec": change})
            cluster.run_for(rng.uniform(0, 30))

        def settled() -> bool:
            found = cluster.get("apps/v1", "StatefulSet", "db")
            assert found is not None
            status, wanted = found["status"], found["spec"]["replicas"]
            return status.get("observedGeneration") == found["metadata"]["generation"] and all(
                status.get(field, 0) == wanted for field in ("replicas", "readyReplicas", "updatedReplicas")
            )

        cluster.wait_until(settled, timeout=600)

    play(seed, scenario)


@pytest.mark.parametrize("seed", SEEDS)
def test_daemon_sets(seed: int) -> None:
    def scenario(cluster: Cluster, watchman: Watchman, rng: random.Random) -> None:
        cluster.create(workload("DaemonSet", "agent"))
        for number in range(8):
            if rng.random() < 0.5:
                version = template("agent", version=str(rng.randint(1, 3)))
                cluster.patch("apps/v1", "DaemonSet", "agent", {"spec": {"template": version}})
            if rng.random() < 0.4:
                cluster.add_node(f"more-{number}")
            if rng.random() < 0.4:
                pods = cluster.list("v1", "Pod", "default", label_selector="app=agent")
                pods = [pod for pod in pods if is_active(pod)]
                if pods:
                    cluster.delete("v1", "Pod", rng.choice(pods)["metadata"]["name"])
            cluster.run_for(rng.uniform(0, rng.choice((1, 3, 15))))

        def settled() -> bool:
            found = cluster.get("apps/v1", "DaemonSet", "agent")
            assert found is not None
            status = found["status"]
            nodes = len(cluster.list("v1", "Node"))
            return status.get("observedGeneration") == found["metadata"]["generation"] and all(
                status.get(field, 0) == nodes for field in ("numberReady", "updatedNumberScheduled")
            )

        cluster.wait_until(settled, timeout=600)

    play(seed, scenario)


@pytest.mark.parametrize("mode", ["NonIndexed", "Indexed"])
@pytest.mark.parametrize("seed", SEEDS)
def test_jobs(seed: int, mode: str) -> None:
    def scenario(cluster: Cluster, watchman: Watchman, rng: random.Random) -> None:
        jobs = {}
        for number in range(3):
            name, completions = f"job-{number}", rng.randint(1, 8)
            pod = template(name, **{"run-seconds": str(rng.uniform(0, 3))})
            pod["spec"]["restartPolicy"] = "Never"
            spec = {
                "completions": completions,
                "parallelism": rng.randint(1, 4),
                "completionMode": mode,
                "template": pod,
            }
            metadata = {"name": name}
            job = cluster.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
            jobs[name] = (job["metadata"]["uid"], completions)
        for name, (uid, completions) in jobs.items():

            def done(name: str = name) -> Object | None:
                found = cluster.get("batch/v1", "Job", name)
                assert found is not None
                return found if found.get("status", {}).get("completionTime") else None

            status = cluster.wait_until(done, timeout=600)["status"]
            assert status["succeeded"] == completions
            assert status.get("failed", 0) == 0
            assert watchman.created[uid] == completions, f"{name}: pods created"

    play(seed, scenario)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_garbage_collector_deletes_nothing_that_has_a_living_owner(seed: int) -> None:
    def scenario(cluster: Cluster, watchman: Watchman, rng: random.Random) -> None:
        def config_map(name: str, *owners: Object) -> Object:
            references = [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": o["metadata"]["name"], "uid": o["metadata"]["uid"]}
                for o in owners
            ]
            metadata = {"name": name, "ownerReferences": references}
            return cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})

        owners = {f"owner-{number}": config_map(f"owner-{number}") for number in range(8)}
        children = {}
        for number in range(30):
            chosen = rng.sample(sorted(owners), rng.randint(1, 2))
            children[f"child-{number}"] = chosen
            config_map(f"child-{number}", *(owners[name] for name in chosen))
            if rng.random() < 0.3:
                cluster.run_for(rng.uniform(0, 3))
        gone: set[str] = set()
        for name in rng.sample(sorted(owners), 5):
            cluster.delete("v1", "ConfigMap", name)
            gone.add(name)
            if rng.random() < 0.5:  # another of the same name is another owner
                config_map(name)
            cluster.run_for(rng.uniform(0, 5))
            left = {obj["metadata"]["name"] for obj in cluster.list("v1", "ConfigMap", "default")}
            assert {child for child, of in children.items() if not set(of) <= gone} <= left
        wanted = {child for child, of in children.items() if not set(of) <= gone}

        def collected() -> bool:
            left = {obj["metadata"]["name"] for obj in cluster.list("v1", "ConfigMap", "default")}
            return {name for name in left if name.startswith("child-")} == wanted

        cluster.wait_until(collected, timeout=300)

    play(seed, scenario)


@pytest.mark.parametrize("silent", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_no_node_is_tainted_when_all_are_down(seed: int, silent: bool) -> None:
    """More likely the controller is cut off than every machine dead; nodes that never said they are ready count too."""
    with Cluster(nodes=3, seed=seed, late_news=LateNews(seconds=3.0)) as cluster:
        tainted = []

        def look(node: Object) -> None:
            keys = [taint["key"] for taint in node["spec"].get("taints") or () if taint["effect"] == "NoExecute"]
            if keys:
                tainted.append((node["metadata"]["name"], keys))

        async def watch() -> None:
            informer = Informer(cluster.client, NODES, cluster.clock)
            informer.add_handler(Callbacks(changed=look))
            cluster._runner.spawn(informer.run(), "look")

        cluster.run(watch())
        cluster.run_for(20)
        if silent:
            for name in ("node-0", "node-1", "node-2"):
                cluster.stop_node(name)
            cluster.run_for(300)
            assert tainted == []
            ready = [
                c["status"]
                for n in cluster.list("v1", "Node")
                for c in n["status"]["conditions"]
                if c["type"] == "Ready"
            ]
            assert ready == ["Unknown"] * 3
        else:
            cluster.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "mute"}})
            cluster.stop_node("node-0")
            cluster.run_for(300)
            assert {name for name, _ in tainted} == {"node-0", "mute"}


@pytest.mark.parametrize("seed", SEEDS)
def test_cron_jobs_budgets_quotas_and_namespaces(seed: int) -> None:
    """One job at a time where two are forbidden, and none twice; budgets and quotas are right at rest."""

    def scenario(cluster: Cluster, watchman: Watchman, rng: random.Random) -> None:
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})
        pod = template("tick", **{"run-seconds": str(rng.uniform(30, 150))})
        pod["spec"]["restartPolicy"] = "Never"
        job = {"spec": {"template": pod, "ttlSecondsAfterFinished": 30}}
        spec = {"schedule": "* * * * *", "concurrencyPolicy": "Forbid", "jobTemplate": job}
        meta = {"name": "tick", "namespace": "n"}
        cluster.create({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta, "spec": spec})
        quota = {"hard": {"pods": "20", "count/replicasets.apps": "5"}}
        cluster.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {**meta, "name": "q"}, "spec": quota})
        web = workload("Deployment", "web", replicas=4)
        web["metadata"]["namespace"] = "n"
        cluster.create(web)
        budget = {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}
        meta = {"name": "b", "namespace": "n"}
        cluster.create({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": budget})
        times: set[str] = set()
        for _ in range(40):
            cluster.run_for(rng.uniform(5, 15))
            jobs = cluster.list("batch/v1", "Job", "n")
            running = [j["metadata"]["name"] for j in jobs if not j.get("status", {}).get("completionTime")]
            assert len(running) <= 1
            times |= {j["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"] for j in jobs}
        assert len(times) > 1
        assert max(watchman.created.values()) <= 4
        cluster.patch("batch/v1", "CronJob", "tick", {"spec": {"suspend": True}}, "n")
        cluster.patch("apps/v1", "Deployment", "web", {"spec": {"replicas": 3}}, "n")

        def at_rest() -> bool:
            pods = [p for p in cluster.list("v1", "Pod", "n") if is_active(p)]
            used = (cluster.get("v1", "ResourceQuota", "q", "n") or {})["status"]["used"]
            status = (cluster.get("policy/v1", "PodDisruptionBudget", "b", "n") or {})["status"]
            allowed = (status["currentHealthy"], status["expectedPods"], status["disruptionsAllowed"])
            return len(pods) == 3 and used == {"pods": "3", "count/replicasets.apps": "1"} and allowed == (3, 3, 1)

        cluster.wait_until(at_rest, timeout=900)
        assert watchman.broken == []
        cluster.delete("v1", "Namespace", "n")
        cluster.wait_until(lambda: cluster.get("v1", "Namespace", "n") is None, timeout=300)
        assert cluster.list("v1", "Pod", "n") == []
        watchman.broken.clear()  # in a namespace that is deleted nothing must be available

    play(seed, scenario)
