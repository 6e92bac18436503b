"""Whatever a controller calls raises once: that controller tries again, the others go on, and health says what is so.

The faults are put into the seams that all controllers share: reconciling, handlers of events, requests, and the waits
of periodic tasks. Each seam of each controller raises the first time that it is used once the faults are on; then real
work is done, in which all controllers have a part.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import pytest

from tests.apiserver.baseobjects import BASES, base
from tests.controllers.test_scenarios import condition, rolled_out, template, workload
from tiphys.api.object import Object
from tiphys.api.resources import builtin_scheme
from tiphys.client.errors import ApiError
from tiphys.client.informer import Handler, Informer
from tiphys.client.rest import Client
from tiphys.controlkit.controller import Controller
from tiphys.controllers.manager import ControllerManager
from tiphys.runtime.clock import VirtualClock
from tiphys.testing import Cluster
from tiphys.testing import cluster as testing

NOT_MADE_ALONE = frozenset(("namespaces", "nodes", "customresourcedefinitions", "apiservices"))


class Fault(Exception):
    """Nothing that a controller expects."""


class Faults:
    """What has been called since the faults are on, and how often; the first call of each raises."""

    def __init__(self, *, on: bool = False) -> None:
        self.on = on
        self.calls = Counter[str]()
        self.succeeded: set[str] = set()

    def strike(self, what: str) -> None:
        if self.on:
            self.calls[what] += 1
            if self.calls[what] == 1:
                raise Fault(what)


def in_reconciles(faults: Faults, patch: pytest.MonkeyPatch) -> None:
    real = Controller.__init__

    def make(self: Controller, name: str, reconcile: Callable[[str], Awaitable[Any]], *args: Any, **more: Any) -> None:
        async def once(key: str) -> Any:
            faults.strike(name)
            result = await reconcile(key)
            faults.succeeded.add(name)
            return result

        real(self, name, once, *args, **more)

    patch.setattr(Controller, "__init__", make)


class Raising:
    """A handler of an informer: the first event of each kind raises."""

    def __init__(self, handler: Handler, name: str, faults: Faults) -> None:
        self.handler, self.name, self.faults = handler, name, faults

    def added(self, obj: Object, *, initial: bool) -> None:
        self.faults.strike(f"{self.name} added")
        self.handler.added(obj, initial=initial)

    def updated(self, old: Object, new: Object) -> None:
        self.faults.strike(f"{self.name} updated")
        self.handler.updated(old, new)

    def deleted(self, obj: Object) -> None:
        self.faults.strike(f"{self.name} deleted")
        self.handler.deleted(obj)


def _controller() -> str | None:
    """The module of the controller that is being made."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        _, is_controller, module = frame.f_code.co_filename.partition("/tiphys/controllers/")
        if is_controller and module not in ("manager.py", "context.py"):
            return module.removesuffix(".py")
        frame = frame.f_back
    return None


def in_handlers(faults: Faults, patch: pytest.MonkeyPatch) -> None:
    real, number = Informer.add_handler, Counter[str]()

    def add(self: Informer, handler: Handler) -> None:
        if (owner := _controller()) is None:
            real(self, handler)
            return
        name = f"{owner} {self.resource.plural}"
        number[name] += 1
        real(self, Raising(handler, f"{name} {number[name]}", faults))

    patch.setattr(Informer, "add_handler", add)


def in_requests(faults: Faults, patch: pytest.MonkeyPatch) -> None:
    real = Client.request

    async def request(self: Client, method: str, path: str, *args: Any, **more: Any) -> Any:
        if (agent := str(vars(self).get("_user_agent", ""))).startswith("kube-controller-manager"):
            kind = next((part for part in reversed(path.split("?")[0].split("/")) if part.endswith("s")), path)
            faults.strike(f"{agent} {method} {kind}")
        return await real(self, method, path, *args, **more)

    patch.setattr(Client, "request", request)


def in_periodic_tasks(faults: Faults, patch: pytest.MonkeyPatch) -> None:
    real = VirtualClock.sleep

    async def sleep(self: VirtualClock, seconds: float) -> None:
        code = sys._getframe(1).f_code
        if "/controllers/" in code.co_filename:
            faults.strike(f"{code.co_filename.partition('/controllers/')[2]} {code.co_qualname}")
        await real(self, seconds)

    patch.setattr(VirtualClock, "sleep", sleep)


def make_one_of_each_kind(cluster: Cluster) -> None:
    """What the faults hit: events and keys of these may be lost."""
    for resource in builtin_scheme().resources():
        if (resource.group, resource.plural) in BASES and resource.plural not in NOT_MADE_ALONE:
            obj = base(resource, resource.storage_version)
            obj["metadata"].setdefault("namespace", "default")
            if not resource.namespaced:
                del obj["metadata"]["namespace"]
            try:
                cluster.create(obj)
            except ApiError as error:
                assert error.code < 500, error  # noqa: PT017 - one that is made alone may be refused
    cluster.run_for(400)
    for resource in builtin_scheme().resources():
        if (resource.group, resource.plural) in BASES and resource.plural not in NOT_MADE_ALONE:
            obj = base(resource, resource.storage_version)
            try:
                cluster.delete(obj["apiVersion"], obj["kind"], obj["metadata"]["name"])
            except ApiError as error:
                assert error.code < 500, error  # noqa: PT017
    cluster.run_for(400)


def work(cluster: Cluster) -> None:
    """Many controllers have a part in it."""
    cluster.create(workload("Deployment", "web", replicas=2))
    cluster.create(workload("StatefulSet", "db", replicas=2, serviceName="db"))
    cluster.create(workload("DaemonSet", "agent"))
    service = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": service})
    job = {"template": template("job", seconds=3, restart="Never"), "ttlSecondsAfterFinished": 5}
    cluster.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": job})
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}})
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "50"}}}
    cluster.create(quota)
    budget = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    cluster.create(
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": budget}
    )
    cluster.wait_until(lambda: rolled_out(cluster, "web"), timeout=300)
    cluster.wait_until(lambda: status(cluster, "apps/v1", "StatefulSet", "db").get("readyReplicas") == 2, timeout=300)
    cluster.wait_until(lambda: status(cluster, "apps/v1", "DaemonSet", "agent").get("numberReady") == 2, timeout=300)
    cluster.wait_until(lambda: cluster.get("batch/v1", "Job", "once") is None, timeout=300)
    cluster.wait_until(lambda: cluster.get("v1", "ServiceAccount", "default", "new"), timeout=300)
    cluster.wait_until(lambda: cluster.get("v1", "ConfigMap", "kube-root-ca.crt", "new"), timeout=300)
    cluster.wait_until(lambda: slices(cluster) == 2, timeout=300)
    cluster.wait_until(lambda: "used" in status(cluster, "v1", "ResourceQuota", "q"), timeout=400)
    cluster.wait_until(
        lambda: condition(cluster.get("policy/v1", "PodDisruptionBudget", "b"), "DisruptionAllowed"), timeout=300
    )
    cluster.delete("apps/v1", "Deployment", "web")
    cluster.wait_until(lambda: not cluster.list("apps/v1", "ReplicaSet", "default"), timeout=300)
    cluster.delete("v1", "Namespace", "new")
    cluster.wait_until(lambda: cluster.get("v1", "Namespace", "new") is None, timeout=300)


def status(cluster: Cluster, version: str, kind: str, name: str) -> Object:
    found = cluster.get(version, kind, name)
    assert found is not None
    read: Object = found.get("status") or {}
    return read


def slices(cluster: Cluster) -> int:
    found = cluster.list("discovery.k8s.io/v1", "EndpointSlice", "default")
    own = [one for one in found if one["metadata"].get("labels", {}).get("kubernetes.io/service-name") == "web"]
    return sum(len(one["endpoints"]) for one in own)


@pytest.fixture
def managers(monkeypatch: pytest.MonkeyPatch) -> list[ControllerManager]:
    """Those that clusters have made."""
    made = list[ControllerManager]()

    def make(*args: Any, **more: Any) -> ControllerManager:
        made.append(ControllerManager(*args, **more))
        return made[-1]

    monkeypatch.setattr(testing, "ControllerManager", make)
    return made


@pytest.mark.parametrize(
    ("seam", "at_least", "from_start"),
    [(in_reconciles, 25, False), (in_handlers, 60, False), (in_requests, 40, False), (in_periodic_tasks, 7, True)],
)
def test_what_raises_once_stops_nobody(
    seam: Callable[[Faults, pytest.MonkeyPatch], None],
    at_least: int,
    from_start: bool,
    managers: list[ControllerManager],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faults = Faults(on=from_start)
    seam(faults, monkeypatch)
    with Cluster(nodes=2, controllers=["*", "bootstrap-signer-controller", "token-cleaner-controller"]) as cluster:
        cluster.run_for(10)
        faults.on = True
        make_one_of_each_kind(cluster)
        work(cluster)
        cluster.run_for(30)
        assert managers[0].troubles() == {}
        assert len(faults.calls) >= at_least, sorted(faults.calls)
        if seam is in_reconciles:
            assert set(faults.calls) <= faults.succeeded
