"""Churn: workloads of every kind that are scaled, rolled out, deleted from and run to completion, without a pause."""

from __future__ import annotations

import random
from typing import Any

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import (
    DAEMON_SETS,
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    PODS,
    STATEFUL_SETS,
    ResourcePath,
)
from tiphys.client.rest import Client
from tiphys.runtime.clock import Clock
from tiphys.testing.torture.ledger import UNANSWERED

IMAGE = "tiphys.local/demo:1"
WORKLOADS: dict[str, ResourcePath] = {"Deployment": DEPLOYMENTS, "StatefulSet": STATEFUL_SETS, "DaemonSet": DAEMON_SETS}
COMPLETIONS = 2
JOBS_KEPT = 4


def template(name: str, *command: str, **spec: Any) -> Object:
    container = {"name": "c", "image": IMAGE, "command": list(command)}
    return {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec},
    }


def workload(kind: str, namespace: str) -> Object:
    name = kind.lower()
    spec: Object = {"selector": {"matchLabels": {"app": name}}, "template": template(name, "sleep", "100000")}
    if kind != "DaemonSet":
        spec["replicas"] = 2
    if kind == "StatefulSet":
        spec["serviceName"] = name
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def job(number: int, namespace: str) -> Object:
    name = f"job-{number}"
    spec = {
        "completions": COMPLETIONS,
        "parallelism": COMPLETIONS,
        "completionMode": "Indexed",
        "backoffLimit": 20,
        "template": template(name, "sleep", "0.2", restartPolicy="Never"),
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


class Churn:
    def __init__(self, client: Client, namespace: str, clock: Clock, rng: random.Random) -> None:
        self._client, self._namespace, self._clock, self._rng = client, namespace, clock, rng
        self._number = 0
        self.done = 0

    async def set_up(self) -> None:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace}}
        await self._client.create(NAMESPACES, namespace)
        for kind, path in WORKLOADS.items():
            await self._client.create(path, workload(kind, self._namespace))

    async def run(self) -> None:
        """Change something until cancelled."""
        changes = (self._scale, self._roll_out, self._delete_pod, self._run_job, self._forget_job)
        while True:
            try:
                await self._rng.choice(changes)()
                self.done += 1
            except UNANSWERED:
                await self._clock.sleep(0.2)
            await self._clock.sleep(self._rng.uniform(0.1, 0.6))

    async def _scale(self) -> None:
        kind = self._rng.choice(("Deployment", "StatefulSet"))
        change = {"spec": {"replicas": self._rng.randint(0, 3)}}
        await self._client.patch(WORKLOADS[kind], kind.lower(), change, self._namespace)

    async def _roll_out(self) -> None:
        kind = self._rng.choice(tuple(WORKLOADS))
        annotations = {"version": str(self._rng.randint(1, 3))}
        change = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
        await self._client.patch(WORKLOADS[kind], kind.lower(), change, self._namespace)

    async def _delete_pod(self) -> None:
        pods = (await self._client.list(PODS, self._namespace))["items"]
        if pods:
            chosen = self._rng.choice(pods)["metadata"]
            await self._client.delete(PODS, chosen["name"], self._namespace, uid=chosen["uid"])

    async def _run_job(self) -> None:
        self._number += 1
        await self._client.create(JOBS, job(self._number, self._namespace))

    async def _forget_job(self) -> None:
        """Delete the oldest, once there are more than a few."""
        jobs = sorted((await self._client.list(JOBS, self._namespace))["items"], key=_age)
        if len(jobs) > JOBS_KEPT:
            await self._client.delete(JOBS, jobs[0]["metadata"]["name"], self._namespace, propagation="Background")

    async def tear_down(self) -> bool:
        """Delete the namespace; whether it is gone."""
        try:
            await self._client.delete(NAMESPACES, self._namespace)
        except errors.NotFound:
            return True
        except errors.Conflict:
            return False  # it is being deleted already
        return False


def _age(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["creationTimestamp"], obj["metadata"]["name"]
