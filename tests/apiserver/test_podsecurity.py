import json
from pathlib import Path

import pytest

from tests.apiserver.apiworld import World, pod, run
from tiphys.apiserver.admission.pods import podsecurity
from tiphys.apiserver.admission.pods.podsecuritychecks import findings
from tiphys.client import resources as R

GOOD = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "c",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
}


def reasons(level: str, spec: dict, minor: int = 36) -> list[str]:
    return [reason for reason, _ in findings(level, minor, {}, spec)]


def test_a_careful_pod_passes_every_level() -> None:
    assert reasons("restricted", GOOD) == []


def test_privileged_forbids_nothing() -> None:
    assert reasons("privileged", {"hostNetwork": True, "containers": []}) == []


def test_details_name_the_containers() -> None:
    spec = {"hostPID": True, "containers": [{"name": n, "securityContext": {"privileged": True}} for n in ("a", "b")]}
    assert findings("baseline", 36, {}, spec) == [
        ("host namespaces", "hostPID=true"),
        ("privileged", 'containers "a", "b" must not set securityContext.privileged=true'),
    ]


def test_restricted_tells_what_a_plain_pod_lacks() -> None:
    assert reasons("restricted", {"containers": [{"name": "c"}]}) == [
        "allowPrivilegeEscalation != false",
        "unrestricted capabilities",
        "runAsNonRoot != true",
        "seccompProfile",
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "hostPath volumes"),
        ({"containers": [{"name": "c", "ports": [{"hostPort": 80}]}]}, "hostPort"),
        ({"containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]}, "procMount"),
        ({"securityContext": {"seLinuxOptions": {"user": "u"}}}, "seLinuxOptions"),
        ({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}, "forbidden sysctls"),
        ({"securityContext": {"windowsOptions": {"hostProcess": True}}}, "hostProcess"),
        ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "seccompProfile"),
        ({"containers": [{"name": "c", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]},
         "non-default capabilities"),
    ],
)  # fmt: skip
def test_what_baseline_forbids(change, reason) -> None:
    assert reasons("baseline", {"containers": [{"name": "c"}], **change}) == [reason]


def test_older_versions_of_the_policy_lack_later_checks() -> None:
    spec = {"containers": [{"name": "c", "livenessProbe": {"httpGet": {"host": "1.2.3.4"}}}]}
    assert reasons("baseline", spec, minor=33) == []
    assert reasons("baseline", spec, minor=34) == ["probe or lifecycle host"]


@pytest.mark.parametrize(
    ("change", "since", "reason"),
    [
        ({"os": {"name": "windows"}, "containers": [{"name": "c"}]}, 25, "unrestricted capabilities"),
        ({"hostUsers": False, "securityContext": {**GOOD["securityContext"], "runAsUser": 0}}, 35, "runAsUser=0"),
        (
            {"securityContext": {**GOOD["securityContext"], "sysctls": [{"name": "net.ipv4.tcp_rmem"}]}},
            32,
            "forbidden sysctls",
        ),
        (
            {"securityContext": {**GOOD["securityContext"], "seLinuxOptions": {"type": "container_engine_t"}}},
            31,
            "seLinuxOptions",
        ),
    ],
)
def test_newer_versions_of_the_policy_allow_more(change, since, reason) -> None:
    assert reason in reasons("restricted", {**GOOD, **change}, since - 1)
    assert reason not in reasons("restricted", {**GOOD, **change}, since)


def test_restricted_tells_of_a_volume_once() -> None:
    spec = {**GOOD, "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}
    assert reasons("restricted", spec) == ["restricted volume types"]


RECORDED = Path(__file__).parent / "data" / "podsecurity.jsonl"


def test_every_check_in_every_version_says_what_v1_36_says() -> None:
    for number, line in enumerate(RECORDED.read_text().splitlines()):
        case = json.loads(line)
        pod = case["pod"]
        for level in ("baseline", "restricted"):
            said = dict(case[level])
            expected: list[list[str]] = []
            for minor in range(37):
                expected = said.get(minor, expected)
                told = findings(level, minor, pod["metadata"], pod["spec"])
                assert [list(finding) for finding in told] == expected, (number, level, minor)


LABELS = {"pod-security.kubernetes.io/enforce": "baseline"}


def test_existing_pods_are_looked_at_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pod of each owner first, the others after, and so many at the most."""
    monkeypatch.setattr(podsecurity, "_MOST_PODS", 4)

    async def work(world: World) -> None:
        await world.namespace("a")
        for number in range(6):
            made = pod(f"p{number}", hostNetwork=True)
            owner = {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": True}
            made["metadata"]["ownerReferences"] = [owner] if number < 4 else []
            await world.admin.create(R.PODS, made, namespace="a")
        await world.settle()
        answer = await world.raw(
            "PATCH",
            "/api/v1/namespaces/a",
            {"metadata": {"labels": LABELS}},
            content_type="application/merge-patch+json",
        )
        warning = answer.headers["Warning"]
        assert "new PodSecurity enforce level only checked against the first 4 of 6 existing pods" in warning
        assert "p0 (and 3 other pods): host namespaces" in warning

    run(work)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"metadata": {"annotations": {"a": "b"}}}, 200),
        ({"spec": {"activeDeadlineSeconds": 10}}, 200),
        ({"spec": {"containers": [{"name": "c", "image": "other"}]}}, 403),
    ],
)
def test_updates_are_checked_if_an_image_changes(change: dict, status: int) -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await world.admin.create(R.PODS, pod("p", hostNetwork=True), namespace="a")
        await world.admin.patch(R.NAMESPACES, "a", {"metadata": {"labels": LABELS}})
        await world.settle()
        media = "application/strategic-merge-patch+json"
        answer = await world.raw("PATCH", "/api/v1/namespaces/a/pods/p", change, content_type=media)
        assert answer.status == status, answer.body

    run(work)
