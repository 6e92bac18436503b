import pytest

from tiphys.apiserver.admission.podsecuritychecks import findings

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
