"""A watchman: follows what is so, without delay, and notes whenever a controller breaks what upstream promises.

What a controller could not know yet is held in its favour: a limit that was changed within the last ``GRACE`` seconds
counts as the laxer of its values.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from tiphys.api.meta.intorstring import scaled_value
from tiphys.api.object import Object
from tiphys.client.informer import Callbacks, Informer
from tiphys.client.resources import DAEMON_SETS, DEPLOYMENTS, JOBS, PODS, REPLICA_SETS, STATEFUL_SETS
from tiphys.testing import Cluster

GRACE = 40.0


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def is_deleting(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def is_active(pod: Object) -> bool:
    return not is_deleting(pod) and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")


def controller(obj: Object) -> Object | None:
    return next((r for r in obj["metadata"].get("ownerReferences") or () if r.get("controller")), None)


class Recent:
    """The values that something had within the last ``GRACE`` seconds, the present one included."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._values: dict[Any, deque[list[float]]] = defaultdict(deque)

    def note(self, key: Any, value: float) -> None:
        values = self._values[key]
        if values:
            values[-1][1] = self._now()
        values.append([value, float("inf")])

    def of(self, key: Any) -> list[float]:
        values = self._values[key]
        while len(values) > 1 and values[0][1] < self._now() - GRACE:
            values.popleft()
        return [value for value, _ in values]


class Watchman:
    """Made within a running cluster. ``broken`` has a sentence for each promise that was broken."""

    def __init__(self, cluster: Cluster) -> None:
        self._clock = cluster.clock
        self.broken: list[str] = []
        self.created: dict[str, int] = defaultdict(int)
        """How many pods were created for each uid of an owner."""
        self._sets = Recent(self._clock.monotonic)
        self._most = Recent(self._clock.monotonic)
        self._least = Recent(self._clock.monotonic)
        self._available = Recent(self._clock.monotonic)
        self._informers = {
            resource: Informer(cluster.client, resource, self._clock)
            for resource in (PODS, REPLICA_SETS, DEPLOYMENTS, STATEFUL_SETS, DAEMON_SETS, JOBS)
        }
        self._informers[DEPLOYMENTS].add_handler(Callbacks(changed=self._deployment))
        self._informers[REPLICA_SETS].add_handler(Callbacks(changed=self._replica_set))
        self._informers[JOBS].add_handler(Callbacks(changed=self._job))
        self._informers[STATEFUL_SETS].add_handler(Callbacks(changed=self._replica_set))
        self._informers[PODS].add_handler(
            Callbacks(added=self._pod_added, changed=self._pod, updated=self._pod_updated)
        )
        for informer in self._informers.values():
            cluster._runner.spawn(informer.run(), f"watchman {informer.resource.plural}")

    def _say(self, text: str) -> None:
        self.broken.append(f"at {self._clock.monotonic():.2f}: {text}")

    def _owner(self, obj: Object, resource: Any) -> Object | None:
        reference = controller(obj)
        if reference is None:
            return None
        found = self._informers[resource].store.get(obj["metadata"]["namespace"], reference["name"])
        return found if found is not None and found["metadata"]["uid"] == reference["uid"] else None

    def _pods_of(self, owner: Object) -> list[Object]:
        uid = owner["metadata"]["uid"]
        pods = self._informers[PODS].store.list(owner["metadata"]["namespace"])
        return [pod for pod in pods if (controller(pod) or {}).get("uid") == uid]

    # What is wanted

    def _deployment(self, deployment: Object) -> None:
        uid, spec = deployment["metadata"]["uid"], deployment["spec"]
        rolling = spec["strategy"].get("rollingUpdate")
        if rolling is None:
            return
        surge = scaled_value(rolling["maxSurge"], spec["replicas"], round_up=True)
        unavailable = scaled_value(rolling["maxUnavailable"], spec["replicas"], round_up=False)
        if not surge and not unavailable:
            unavailable = 1
        most = spec["replicas"] + surge
        before, available = self._most.of(uid), self._available.of(uid)
        if before and available and most < before[-1]:
            # Every ReplicaSet gives its share, whatever the health of its pods: upstream's proportional scaling.
            self._least.note(uid, int(available[-1] * most / before[-1]) - 1)
        self._most.note(uid, most)
        self._least.note(uid, spec["replicas"] - unavailable)

    def _replica_set(self, rs: Object) -> None:
        self._sets.note(rs["metadata"]["uid"], rs["spec"]["replicas"])

    def _job(self, job: Object) -> None:
        spec, status = job["spec"], job.get("status", {})
        if spec.get("completions") is not None and status.get("succeeded", 0) > spec["completions"]:
            self._say(
                f"job {job['metadata']['name']} counts {status['succeeded']} of {spec['completions']} completions"
            )

    # What is so

    def _pod_added(self, pod: Object) -> None:
        reference = controller(pod)
        if reference is None:
            return
        self.created[reference["uid"]] += 1
        check = {
            "ReplicaSet": self._no_overshoot,
            "StatefulSet": self._one_at_a_time,
            "DaemonSet": self._one_a_node,
            "Job": self._no_more_than_parallelism,
        }.get(reference["kind"])
        if check is not None:
            check(pod)
        self._pod(pod)

    def _pod_updated(self, old: Object, new: Object) -> None:
        if (controller(new) or {}).get("kind") == "StatefulSet":
            self._one_at_a_time(new)
        self._pod(new)

    def _pod(self, pod: Object) -> None:
        rs = self._owner(pod, REPLICA_SETS)
        deployment = self._owner(rs, DEPLOYMENTS) if rs is not None else None
        if deployment is None or is_deleting(deployment):
            return
        uid, name = deployment["metadata"]["uid"], deployment["metadata"]["name"]
        sets = [
            found
            for found in self._informers[REPLICA_SETS].store.list(deployment["metadata"]["namespace"])
            if (controller(found) or {}).get("uid") == uid
        ]
        available = sum(is_ready(pod) and is_active(pod) for found in sets for pod in self._pods_of(found))
        before = self._available.of(uid)
        self._available.note(uid, available)
        if before and available < before[-1] and available < (least := min(self._least.of(uid))):
            self._say(f"deployment {name} has {available} available pods, fewer than {least}")

    def _no_overshoot(self, pod: Object) -> None:
        rs = self._owner(pod, REPLICA_SETS)
        if rs is None:
            return
        active, most = sum(map(is_active, self._pods_of(rs))), max(self._sets.of(rs["metadata"]["uid"]))
        if active > most:
            self._say(f"replica set {rs['metadata']['name']} has {active} pods, more than {most}")

    def _one_at_a_time(self, pod: Object) -> None:
        """Of the pods that a StatefulSet keeps, managed in order, one at most is on its way, up or down."""
        owner = self._owner(pod, STATEFUL_SETS)
        if owner is None or is_deleting(owner) or owner["spec"].get("podManagementPolicy") == "Parallel":
            return
        kept = min(self._sets.of(owner["metadata"]["uid"]))
        pods = {int(p["metadata"]["name"].rpartition("-")[2]): p for p in self._pods_of(owner)}
        under_way = [number for number, p in pods.items() if number < kept and (is_deleting(p) or not is_ready(p))]
        if len(under_way) > 1:
            self._say(f"stateful set {owner['metadata']['name']} has several pods under way: {under_way}")

    def _one_a_node(self, pod: Object) -> None:
        owner = self._owner(pod, DAEMON_SETS)
        if owner is None:
            return
        terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        same = [
            p
            for p in self._pods_of(owner)
            if p["spec"]["affinity"]["nodeAffinity"]
            == {**p["spec"]["affinity"]["nodeAffinity"], "requiredDuringSchedulingIgnoredDuringExecution": terms}
        ]
        if len(same) > 1:
            self._say(f"daemon set {owner['metadata']['name']} has {len(same)} pods for one node")

    def _no_more_than_parallelism(self, pod: Object) -> None:
        job = self._owner(pod, JOBS)
        if job is None:
            return
        active = [p for p in self._pods_of(job) if is_active(p)]
        if len(active) > job["spec"]["parallelism"]:
            self._say(f"job {job['metadata']['name']} has {len(active)} pods, more than its parallelism")
        if job["spec"].get("completionMode") == "Indexed":
            indexes = [p["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] for p in active]
            if len(set(indexes)) < len(indexes):
                self._say(f"job {job['metadata']['name']} has two pods of an index: {indexes}")
