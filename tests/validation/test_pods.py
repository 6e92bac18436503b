"""Pods: what is refused, and what looks wrong but is not."""

from __future__ import annotations

import pytest

from tests.validation.making import CONTAINER, changed, create, pod, status_update, update
from tiphys.api.object import Object
from tiphys.validation.pods.capabilities import ALLOWED

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character"
)

REFUSED: list[tuple[Object, list[str]]] = [
    ({"spec": {"containers": []}}, ["spec.containers: Required value"]),
    (pod(containers=[{"name": "A", "image": "i"}]), [f'spec.containers[0].name: Invalid value: "A": {LABEL}']),
    (pod(containers=[CONTAINER, CONTAINER]), ['spec.containers[1].name: Duplicate value: "c"']),
    (pod(containers=[{"name": "c"}]), ["spec.containers[0].image: Required value"]),
    (
        pod(restartPolicy="Sometimes"),
        ['spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"'],
    ),
    (
        pod(dnsPolicy="None"),
        ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
    ),
    (
        changed({"image": " i"}),
        ['spec.containers[0].image: Invalid value: " i": must not have leading or trailing whitespace'],
    ),
    (
        changed({"ports": [{"containerPort": 0}]}),
        ["spec.containers[0].ports[0].containerPort: Required value"],
    ),
    (
        changed({"ports": [{"containerPort": 70000}]}),
        [
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ],
    ),
    (
        changed({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
        ['spec.containers[0].volumeMounts[0].name: Not found: "v"'],
    ),
    (
        changed({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}),
        ['spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1'],
    ),
    (
        changed({"livenessProbe": {}}),
        ["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
    ),
    (
        changed({"env": [{"name": ""}]}),
        ["spec.containers[0].env[0].name: Required value"],
    ),
    (
        pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
        ["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
    ),
    (
        pod(volumes=[{"name": "v", "hostPath": {"path": "/a/../b"}}]),
        ["spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"],
    ),
    (
        pod(schedulingGates=[{"name": "a"}, {"name": "a"}]),
        ['spec.schedulingGates[1]: Duplicate value: "a"'],
    ),
]


@pytest.mark.parametrize(("obj", "errors"), REFUSED)
def test_refused(obj: Object, errors: list[str]) -> None:
    assert create("v1", "Pod", obj) == errors


@pytest.mark.parametrize(
    "obj",
    [
        pod(),
        pod(initContainers=[{"name": "i", "image": "i", "restartPolicy": "Always"}]),
        pod(volumes=[{"name": "v"}]),
        changed({"env": [{"name": "1.a-b"}]}),
        changed({"ports": [{"containerPort": 80}, {"containerPort": 80}]}),
        pod(tolerations=[{"operator": "Exists"}]),
        pod(hostNetwork=True),
        {"metadata": {"name": "a.b"}, **pod()},
    ],
)
def test_accepted(obj: Object) -> None:
    assert create("v1", "Pod", obj) == []


def test_missing_and_null_are_the_same() -> None:
    assert create("v1", "Pod", pod(affinity=None, volumes=None, tolerations=None, nodeSelector=None)) == []


def test_updates() -> None:
    old = pod()
    assert update("v1", "Pod", changed({"image": "other"}), old) == []
    assert update("v1", "Pod", pod(containers=[CONTAINER, {"name": "d", "image": "i"}]), old) == [
        "spec.containers: Forbidden: pod updates may not add or remove containers"
    ]
    assert update("v1", "Pod", pod(tolerations=[{"operator": "Exists"}]), old) == []
    [refused] = update("v1", "Pod", pod(nodeName="n"), old)
    assert refused.startswith("spec: Forbidden: pod updates may not change fields other than")
    assert '- "NodeName": "",\n+ "NodeName": "n",\n' in refused


def test_update_of_resources_shows_the_amounts() -> None:
    old = changed({"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}})
    [refused] = update("v1", "Pod", changed({"resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}), old)
    assert '-     "cpu": "1",\n+     "cpu": "2",\n' in refused


def test_gates_are_only_taken_away() -> None:
    gated = pod(schedulingGates=[{"name": "a"}])
    assert update("v1", "Pod", pod(), gated) == []
    assert update("v1", "Pod", gated, pod()) == [
        "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a'"
    ]
    assert update("v1", "Pod", pod(nodeSelector={"a": "b"}, schedulingGates=[{"name": "a"}]), gated) == []


def test_status_does_not_move_a_pod() -> None:
    new, old = pod(nodeName="b"), pod(nodeName="a")
    assert status_update("v1", "Pod", new, old) == [
        "status.nodeName: Forbidden: may not be changed directly",
    ]


def test_a_device_meets_the_last_mount_of_each_volume() -> None:
    volumes = [{"name": "v", "emptyDir": {}}, {"name": "b", "persistentVolumeClaim": {"claimName": "c"}}]

    def found(*paths: str) -> list[str]:
        mounts = [{"name": "v", "mountPath": path} for path in paths]
        devices = [{"name": "b", "devicePath": "/x"}]
        container = {**CONTAINER, "volumeMounts": mounts, "volumeDevices": devices}
        return create("v1", "Pod", pod(containers=[container], volumes=volumes))

    taken = "must not already exist as a path in volume"
    at = "spec.containers[0]"
    mount, device = f'{at}.volumeMounts[{{}}].mountPath: Invalid value: "/x": {taken}Devices', f"{at}.volumeDevices[0]"
    assert found("/a", "/x") == [mount.format(1), f'{device}.devicePath: Invalid value: "/x": {taken}Mounts']
    assert found("/x", "/a") == [mount.format(0)]


@pytest.fixture
def without_privileges(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``--allow-privileged=false``, upstream's default, does."""
    monkeypatch.setattr(ALLOWED, "privileged", False)


@pytest.mark.usefixtures("without_privileges")
def test_privileged_containers_of_every_kind_are_disallowed_by_policy() -> None:
    privileged = {**CONTAINER, "securityContext": {"privileged": True}}
    plain = {**CONTAINER, "name": "d", "securityContext": {"privileged": False}}
    said = create("v1", "Pod", pod(containers=[privileged, plain], initContainers=[{**privileged, "name": "i"}]))
    text = "securityContext.privileged: Forbidden: disallowed by cluster policy"
    assert said == [f"spec.containers[0].{text}", f"spec.initContainers[0].{text}"]


@pytest.mark.usefixtures("without_privileges")
def test_processes_of_a_windows_host_are_disallowed_by_policy() -> None:
    context = {"windowsOptions": {"hostProcess": True}}
    wanted = pod(hostNetwork=True, securityContext=context, os={"name": "windows"})
    assert create("v1", "Pod", wanted) == ["spec: Forbidden: hostProcess containers are disallowed by cluster policy"]
