"""Whether a container is started again: restart policies of pods and containers, restart rules, and crash back-off.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy (and KEP-5307 for the rules).
"""

from __future__ import annotations

from typing import Any

from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.observed import PodStatus
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.runtime.service import ContainerState

RESTART_ALL = "RestartAllContainers"


def matching_rule(container: ContainerSpec, exit_code: int) -> dict[str, Any] | None:
    """The first restart rule of the container that matches an exit code."""
    for rule in container.get("restartPolicyRules") or []:
        codes = rule.get("exitCodes") or {}
        listed = exit_code in (codes.get("values") or [])
        if (codes.get("operator") == "In" and listed) or (codes.get("operator") == "NotIn" and not listed):
            matching: dict[str, Any] = rule
            return matching
    return None


def restarts_after_exit(pod: Pod, container: ContainerSpec, exit_code: int) -> bool:
    """Whether a container that ended with ``exit_code`` is to run again."""
    if own := container.get("restartPolicy"):
        rule = matching_rule(container, exit_code)
        if rule is not None and rule.get("action") in ("Restart", RESTART_ALL):
            return True
        return bool(own == "Always" or (own == "OnFailure" and exit_code != 0))
    policy = pods.restart_policy(pod)
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def restarts_after_kill(pod: Pod, container: ContainerSpec) -> bool:
    """Whether a container that the kubelet kills itself (a failed probe) is to run again."""
    return bool((container.get("restartPolicy") or pods.restart_policy(pod)) != "Never")


def should_run(pod: Pod, container: ContainerSpec, status: PodStatus) -> bool:
    """Whether a container that is not running is to be started (again)."""
    if pods.is_deleting(pod):
        return False
    last = status.find(container["name"])
    if last is None or last.state in (ContainerState.UNKNOWN, ContainerState.CREATED):
        return True
    return not last.running and restarts_after_exit(pod, container, last.exit_code)


def backoff_key(pod: Pod, container: ContainerSpec) -> str:
    return f"{pods.uid_of(pod)}_{container['name']}_{pods.container_hash(container)}"
