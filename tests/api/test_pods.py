"""What follows from a pod's spec: disabled fields that are dropped, the quality-of-service class."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tiphys.api.object import Object
from tiphys.api.pods.apparmor import ANNOTATION, profiles_from_annotations
from tiphys.api.pods.disabled import drop_disabled
from tiphys.api.pods.qos import qos_class

BUNDLE: Object = {"clusterTrustBundle": {"name": "b", "path": "p"}}
PLAIN: Object = {"secret": {"name": "s"}}
SIGNALLED: Object = {"name": "c", "lifecycle": {"stopSignal": "SIGTERM"}}


def spec_of(**fields: Any) -> Object:
    return {"containers": [{"name": "c"}], **fields}


def projecting(*sources: Object) -> Object:
    return spec_of(volumes=[{"name": "e", "emptyDir": {}}, {"name": "v", "projected": {"sources": list(sources)}}])


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (projecting(BUNDLE, PLAIN), projecting({}, PLAIN)),
        (projecting({"podCertificate": {"keyType": "ED25519"}}), projecting({})),
        (spec_of(schedulingGroup={"podGroupName": "g"}), spec_of()),
        (spec_of(containers=[SIGNALLED]), spec_of()),
        (
            spec_of(initContainers=[{"name": "i", "lifecycle": {"preStop": {}, "stopSignal": "SIGHUP"}}]),
            spec_of(initContainers=[{"name": "i", "lifecycle": {"preStop": {}}}]),
        ),
        (spec_of(containers=[{"name": "c", "lifecycle": {}}]), spec_of(containers=[{"name": "c", "lifecycle": {}}])),
    ],
)
def test_disabled_fields_are_dropped(sent: Object, kept: Object) -> None:
    pod = {"spec": copy.deepcopy(sent)}
    drop_disabled("", "pods", pod, None)
    assert pod == {"spec": kept}
    cron = {"spec": {"jobTemplate": {"spec": {"template": {"spec": copy.deepcopy(sent)}}}}}
    drop_disabled("batch", "cronjobs", cron, None)
    assert cron == {"spec": {"jobTemplate": {"spec": {"template": {"spec": kept}}}}}


@pytest.mark.parametrize(
    "spec", [projecting(BUNDLE), spec_of(containers=[SIGNALLED]), spec_of(schedulingGroup={"podGroupName": "g"})]
)
def test_what_is_in_use_stays(spec: Object) -> None:
    pod = {"spec": copy.deepcopy(spec)}
    drop_disabled("", "pods", pod, {"spec": spec})
    assert pod == {"spec": spec}


def test_disabled_fields_of_a_status() -> None:
    mount = {"name": "v", "mountPath": "/v"}
    status: Object = {
        "nodeAllocatableResourceClaimStatuses": [{}],
        "containerStatuses": [{"volumeMounts": [{**mount, "volumeStatus": {"image": {}}}]}],
    }
    pod = {"status": copy.deepcopy(status)}
    drop_disabled("", "pods", pod, None)
    assert pod == {"status": {"containerStatuses": [{"volumeMounts": [mount]}]}}
    used = {"status": copy.deepcopy(status)}
    drop_disabled("", "pods", used, {"status": status})
    assert used == {"status": status}


def with_resources(*containers: Object, **fields: Any) -> Object:
    return {"containers": [{"resources": resources} for resources in containers], **fields}


ONE: Object = {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (with_resources({}), "BestEffort"),
        (with_resources({"requests": {"cpu": "0"}}), "BestEffort"),
        (with_resources({"requests": {"ephemeral-storage": "1"}}), "BestEffort"),
        (with_resources({"limits": ONE, "requests": ONE}), "Guaranteed"),
        (with_resources({"limits": ONE, "requests": {"cpu": "1", "memory": "1024Mi"}}), "Guaranteed"),
        (with_resources({"limits": ONE, "requests": {"cpu": "0", "memory": "1Gi"}}), "Burstable"),
        (with_resources({"limits": ONE, "requests": ONE}, {}), "Burstable"),
        (with_resources({"limits": ONE, "requests": ONE}, resources={}), "BestEffort"),
        (with_resources({}, resources={"limits": ONE, "requests": ONE}), "Guaranteed"),
        (with_resources({"limits": ONE, "requests": ONE}, resources={"requests": ONE}), "Burstable"),
    ],
)
def test_quality_of_service(spec: Object, expected: str) -> None:
    assert qos_class(spec) == expected


def with_profile(annotation: str, **spec: Any) -> tuple[Object, list[str]]:
    warnings: list[str] = []
    pod = {"metadata": {"annotations": {ANNOTATION + "c": annotation}}, "spec": spec_of(**spec)}
    profiles_from_annotations(pod, warnings.append)
    return pod["spec"], warnings


WARNING = f'metadata.annotations[{ANNOTATION}c]: deprecated since v1.30; use the "appArmorProfile" field instead'


def test_profiles_in_annotations_become_fields() -> None:
    made = spec_of(containers=[{"name": "c", "securityContext": {"appArmorProfile": {"type": "Unconfined"}}}])
    assert with_profile("unconfined") == (made, [WARNING])
    assert with_profile("localhost/") == (spec_of(), [WARNING])
    assert with_profile("localhost/ a") == (spec_of(), [WARNING])
    windows = {"os": {"name": "windows"}}
    assert with_profile("unconfined", **windows) == (spec_of(**windows), [])
    same = {"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}
    assert with_profile("runtime/default", **same) == (spec_of(**same), [])
