"""What to do for a pod: the decision, case by case."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kubelet.world import container, pod
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.actions import KillReason, Probe, compute_actions
from tiphys.kubelet.pod.observed import ObservedContainer, PodStatus
from tiphys.kubelet.pod.restarts import matching_rule, restarts_after_exit
from tiphys.kubelet.runtime.service import ContainerState, Sandbox


def sandbox(
    identity: str = "s1", *, ready: bool = True, attempt: int = 0, ips: tuple[str, ...] = ("10.0.0.1",)
) -> Sandbox:
    return Sandbox(identity, "web", "default", "uid-web", attempt, ready, 1.0, ips=ips)


def run(name: str, state: ContainerState = ContainerState.RUNNING, code: int = 0, **more: Any) -> ObservedContainer:
    return ObservedContainer(f"id-{name}", name, state, 1.0, exit_code=code, sandbox_id="s1", **more)


def observed(*containers: ObservedContainer, sandboxes: tuple[Sandbox, ...] | None = None) -> PodStatus:
    return PodStatus("uid-web", sandboxes=(sandbox(),) if sandboxes is None else sandboxes, containers=containers)


def no_results(*_: object) -> None:
    return None


EXITED = ContainerState.EXITED


def test_a_new_pod_gets_a_sandbox_and_its_containers() -> None:
    actions = compute_actions(pod("web", container("a"), container("b")), observed(sandboxes=()), no_results)
    assert (actions.create_sandbox, actions.attempt, actions.start) == (True, 0, [0, 1])


def test_init_containers_come_first() -> None:
    wanted = pod("web", initContainers=[container("i1"), container("i2")])
    actions = compute_actions(wanted, observed(sandboxes=()), no_results)
    assert (actions.start_init, actions.start) == ([0], [])
    actions = compute_actions(wanted, observed(run("i1")), no_results)
    assert actions.nothing
    actions = compute_actions(wanted, observed(run("i1", EXITED)), no_results)
    assert (actions.start_init, actions.start) == ([1], [])
    actions = compute_actions(wanted, observed(run("i1", EXITED), run("i2", EXITED)), no_results)
    assert (actions.start_init, actions.start) == ([], [0])


def test_init_containers_that_the_runtime_forgot_do_not_run_again() -> None:
    wanted = pod("web", initContainers=[container("i1"), container("i2")])
    assert compute_actions(wanted, observed(run("main")), no_results).nothing


def test_a_failed_init_container_is_tried_again_or_ends_the_pod() -> None:
    wanted = pod("web", initContainers=[container("i1")])
    assert compute_actions(wanted, observed(run("i1", EXITED, 1)), no_results).start_init == [0]
    never = pod("web", initContainers=[container("i1")], restartPolicy="Never")
    actions = compute_actions(never, observed(run("i1", EXITED, 1)), no_results)
    assert (actions.kill_pod, actions.start_init) == (True, [])


def test_a_sidecar_lets_the_next_one_start_once_it_has_begun() -> None:
    side = container("side", restartPolicy="Always", startupProbe={"exec": {"command": ["true"]}})
    wanted = pod("web", initContainers=[side, container("i2")])
    waiting = compute_actions(wanted, observed(run("side")), no_results)
    assert waiting.nothing
    begun = compute_actions(wanted, observed(run("side")), lambda probe, _: probe is Probe.STARTUP or None)
    assert begun.start_init == [1]


def test_a_sidecar_that_ended_is_started_again_while_the_pod_lives() -> None:
    wanted = pod("web", initContainers=[container("side", restartPolicy="Always")], restartPolicy="Never")
    again = compute_actions(wanted, observed(run("side", EXITED, 1), run("main")), no_results)
    assert (again.start_init, again.kill_pod) == ([0], False)
    over = compute_actions(wanted, observed(run("side"), run("main", EXITED)), no_results)
    assert (over.start_init, over.kill_pod) == ([], True)


@pytest.mark.parametrize(
    ("policy", "code", "starts"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_restart_policies(policy: str, code: int, starts: bool) -> None:
    wanted = pod("web", container("main"), container("other"), restartPolicy=policy)
    actions = compute_actions(wanted, observed(run("main", EXITED, code), run("other")), no_results)
    assert actions.start == ([0] if starts else [])


def test_rules_of_a_container_win_over_the_pods_policy() -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    spec = container("main", restartPolicy="Never", restartPolicyRules=rules)
    wanted = pod("web", spec, restartPolicy="Always")
    assert restarts_after_exit(wanted, spec, 42)
    assert not restarts_after_exit(wanted, spec, 1)
    not_in = {"restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [1]}}]}
    assert matching_rule({"name": "x", **not_in}, 2) is not None
    assert matching_rule({"name": "x", **not_in}, 1) is None


def test_a_lost_sandbox_is_made_again() -> None:
    actions = compute_actions(pod("web"), observed(run("main", EXITED), sandboxes=(sandbox(ready=False),)), no_results)
    assert (actions.kill_pod, actions.create_sandbox, actions.attempt, actions.sandbox_id) == (True, True, 1, "s1")
    no_address = compute_actions(pod("web"), observed(sandboxes=(sandbox(ips=()),)), no_results)
    assert no_address.create_sandbox


def test_a_pod_that_is_done_gets_no_new_sandbox() -> None:
    wanted = pod("web", restartPolicy="Never")
    actions = compute_actions(wanted, observed(run("main", EXITED), sandboxes=(sandbox(ready=False),)), no_results)
    assert (actions.kill_pod, actions.create_sandbox) == (True, False)


def test_failed_probes_kill() -> None:
    def failed(which: Probe) -> Any:
        return lambda probe, _: False if probe is which else None

    actions = compute_actions(pod("web"), observed(run("main")), failed(Probe.LIVENESS))
    assert actions.start == [0]
    assert actions.kill[0].reason is KillReason.LIVENESS_PROBE
    assert actions.kill[0].message == "Container main failed liveness probe, will be restarted"
    once = compute_actions(pod("web", restartPolicy="Never"), observed(run("main")), failed(Probe.STARTUP))
    assert (once.start, once.kill[0].message) == ([], "Container main failed startup probe")
    assert compute_actions(pod("web"), observed(run("main")), failed(Probe.READINESS)).nothing


def test_a_changed_definition_restarts_whatever_the_policy() -> None:
    spec = container("main")
    same = compute_actions(pod("web", spec), observed(run("main", hash=pods.container_hash(spec))), no_results)
    assert same.nothing
    changed = compute_actions(pod("web", spec, restartPolicy="Never"), observed(run("main", hash="old")), no_results)
    assert changed.kill[0].message == "Container main definition changed, will be restarted"


def test_ephemeral_containers_start_once() -> None:
    wanted = pod("web", ephemeralContainers=[container("debug")])
    assert compute_actions(wanted, observed(run("main")), no_results).start_ephemeral == [0]
    assert compute_actions(wanted, observed(run("main"), run("debug", EXITED)), no_results).nothing


def test_a_pod_that_is_being_deleted_starts_nothing() -> None:
    wanted = pod("web")
    wanted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert compute_actions(wanted, observed(run("main", EXITED, 1)), no_results).start == []


def test_only_what_the_runtime_reports_is_resized() -> None:
    wanted = pod("web", container("main"))
    asked = {"cpu_shares": 512, "cpu_quota": 50_000, "memory_limit_in_bytes": 0}

    def decide(has: dict[str, int] | None) -> list[str]:
        seen = observed(run("main", resources=has))
        return [r.name for r in compute_actions(wanted, seen, no_results, lambda *_: asked).resize]

    assert decide(None) == []
    assert decide({"cpu_shares": 512, "cpu_quota": 50_000}) == []
    assert decide({"cpu_shares": 2, "cpu_quota": 50_000}) == ["main"]
    assert decide({"cpu_shares": 512, "cpu_quota": 50_000, "memory_limit_in_bytes": 5}) == [], "limits are not lifted"
