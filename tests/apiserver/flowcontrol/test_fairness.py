"""Requests through a server that is short of seats: who runs, who waits, who is turned away."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.apiserver.apiworld import World, run
from tiphys.apiserver.config import Config
from tiphys.apiserver.flowcontrol.controller import FlowController
from tiphys.wire.http import Response

ANN, BOB = ("ann", ("system:authenticated",)), ("bob", ("system:authenticated",))
NODE = ("system:node:n1", ("system:nodes", "system:authenticated"))
GROUP = "/apis/flowcontrol.apiserver.k8s.io/v1"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"


def fairness_of(world: World) -> FlowController:
    assert world.server.gate.fairness is not None
    return world.server.gate.fairness


async def grant(world: World) -> None:
    """Everybody may read config maps and renew leases."""
    rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]},
    ]
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    await world.json("POST", f"{rbac}/clusterroles", {"metadata": {"name": "all"}, "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "all"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}
    binding = {"metadata": {"name": "all"}, "roleRef": reference, "subjects": [subject]}
    await world.json("POST", f"{rbac}/clusterrolebindings", binding)
    await world.settle()


class Slow:
    """Admission that holds creations of config maps until it is told to let them go."""

    def __init__(self, world: World) -> None:
        self.release = asyncio.Event()
        self.waiting = 0
        self._admit = world.server.admission.validate
        world.server.admission.validate = self.validate  # type: ignore[method-assign]

    async def validate(self, attributes: Any) -> None:
        if attributes.plural == "configmaps":
            self.waiting += 1
            await self.release.wait()
        await self._admit(attributes)


def create(world: World, name: str, user: Any) -> asyncio.Future[Response]:
    body = {"metadata": {"name": name}}
    return asyncio.ensure_future(world.raw("POST", "/api/v1/namespaces/default/configmaps", body, user=user))


SMALL = Config(seed=1, max_requests_in_flight=12, max_mutating_requests_in_flight=12)


def test_a_noisy_tenant_waits_while_others_and_nodes_are_served() -> None:
    async def work(world: World) -> None:
        await grant(world)
        slow = Slow(world)
        noisy = [create(world, f"a{number}", ANN) for number in range(400)]
        await world.clock.sleep(0.1)
        assert 1 <= slow.waiting <= 24
        renewed = await world.raw("GET", LEASE, user=NODE)
        assert renewed.status == 404
        assert (await world.raw("GET", "/readyz", user=None)).status == 200
        done = [task for task in noisy if task.done()]
        assert {task.result().status for task in done} == {429}
        refused = done[0].result()
        assert refused.headers["Retry-After"] == "1"
        assert refused.body == b"Too many requests, please try again later.\n"
        quiet = create(world, "b", BOB)
        slow.release.set()
        assert (await quiet).status == 201
        statuses = [(await task).status for task in noisy]
        assert set(statuses) == {201, 429}
        assert all(level.queues.is_idle for level in fairness_of(world).levels.values())

    run(work, SMALL)


def test_who_waits_too_long_is_turned_away_and_who_leaves_gives_up_the_place() -> None:
    async def work(world: World) -> None:
        await grant(world)
        slow = Slow(world)
        tasks = [create(world, f"a{number}", ANN) for number in range(20)]
        await world.clock.sleep(0.1)
        held = slow.waiting
        level = fairness_of(world).levels["global-default"]
        assert level.queues.waiting == 20 - held
        tasks[-1].cancel()
        await world.clock.sleep(0.1)
        assert level.queues.waiting == 19 - held
        await world.clock.sleep(16)
        refused = [task.result().status for task in tasks[:-1] if task.done()]
        assert set(refused) == {429}
        assert len(refused) + slow.waiting == 19, "a level that is short of seats has borrowed some meanwhile"
        slow.release.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert level.queues.is_idle
        assert (world.server.gate.in_flight.mutating, world.server.gate.in_flight.reading) == (0, 0)

    run(work, SMALL)


def test_answers_name_the_schema_and_the_level() -> None:
    async def work(world: World) -> None:
        await grant(world)
        for status, response in (
            (200, await world.raw("GET", "/api/v1/configmaps", user=ANN)),
            (403, await world.raw("GET", "/api/v1/secrets", user=ANN)),
        ):
            assert response.status == status
            for kind, plural, header in (
                ("FlowSchema", "flowschemas", "FlowSchema"),
                ("PriorityLevelConfiguration", "prioritylevelconfigurations", "PriorityLevel"),
            ):
                obj = await world.json("GET", f"{GROUP}/{plural}/global-default")
                assert obj["kind"] == kind
                assert response.headers[f"X-Kubernetes-PF-{header}-UID"] == obj["metadata"]["uid"]

    run(work)


def test_objects_take_effect_and_the_mandatory_ones_are_always_there() -> None:
    async def work(world: World) -> None:
        await grant(world)
        limited = {"nominalConcurrencyShares": 100, "limitResponse": {"type": "Reject"}}
        level = {"metadata": {"name": "vip"}, "spec": {"type": "Limited", "limited": limited}}
        await world.json("POST", f"{GROUP}/prioritylevelconfigurations", level)
        rule = {
            "subjects": [{"kind": "User", "user": {"name": "ann"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
        }
        spec = {"priorityLevelConfiguration": {"name": "vip"}, "matchingPrecedence": 50, "rules": [rule]}
        schema = await world.json("POST", f"{GROUP}/flowschemas", {"metadata": {"name": "vip"}, "spec": spec})
        await world.settle()
        answer = await world.raw("GET", "/api/v1/namespaces/default/configmaps", user=ANN)
        assert answer.headers["X-Kubernetes-PF-FlowSchema-UID"] == schema["metadata"]["uid"]
        await world.json("DELETE", f"{GROUP}/prioritylevelconfigurations/vip")
        await world.json("DELETE", f"{GROUP}/flowschemas/catch-all")
        await world.settle()
        answer = await world.raw("GET", "/api/v1/namespaces/default/configmaps", user=ANN)
        assert answer.status == 200
        assert answer.headers["X-Kubernetes-PF-FlowSchema-UID"] != schema["metadata"]["uid"]
        assert "vip" not in fairness_of(world).levels
        assert fairness_of(world).schemas[-1].name == "catch-all"

    run(work)


def test_debug_pages_and_figures() -> None:
    async def work(world: World) -> None:
        await grant(world)
        slow = Slow(world)
        tasks = [create(world, f"a{number}", ANN) for number in range(20)]
        await world.clock.sleep(0.1)

        async def text(path: str) -> str:
            response = await world.raw("GET", path)
            assert isinstance(response.body, bytes)
            return response.body.decode()

        prefix = "/debug/api_priority_and_fairness/"
        levels = (await text(f"{prefix}dump_priority_levels")).splitlines()
        assert levels[0].startswith("PriorityLevelName,")
        assert [line.split(",")[0] for line in levels[1:]] == sorted(fairness_of(world).levels)
        assert sum("global-default" in line for line in (await text(f"{prefix}dump_queues")).splitlines()) == 128
        requests = (await text(f"{prefix}dump_requests")).splitlines()
        assert sum(" ann," in line for line in requests) == 20
        figures = await text("/metrics")
        wanted = 'apiserver_flowcontrol_current_inqueue_requests{priority_level="global-default"} '
        assert f"{wanted}{20 - slow.waiting}.0" in figures
        assert 'apiserver_flowcontrol_nominal_limit_seats{priority_level="workload-low"} 10.0' in figures
        assert "apiserver_flowcontrol_request_wait_duration_seconds_bucket" in figures
        slow.release.set()
        await asyncio.gather(*tasks)

    run(work, SMALL)


def test_without_it_two_limits_hold() -> None:
    async def work(world: World) -> None:
        await grant(world)
        slow = Slow(world)
        tasks = [create(world, f"a{number}", ANN) for number in range(20)]
        await world.clock.sleep(0.1)
        assert slow.waiting == 12
        assert sum(task.done() and task.result().status == 429 for task in tasks) == 8
        slow.release.set()
        await asyncio.gather(*tasks)

    config = Config(seed=1, priority_and_fairness=False, max_requests_in_flight=12, max_mutating_requests_in_flight=12)
    run(work, config)
