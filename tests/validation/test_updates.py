"""What of an object may change, and what its subresources take."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.validation.making import CONTAINER, changed, create, made, pod, short, status_update, update
from tiphys.api.object import Object
from tiphys.validation import subresources

TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [CONTAINER]}}
SELECTOR = {"matchLabels": {"a": "b"}}


def workload(**spec: Any) -> Object:
    return {"spec": {"selector": SELECTOR, "template": TEMPLATE, **spec}}


CLUSTER_IP = {
    "clusterIP": "10.0.0.1",
    "clusterIPs": ["10.0.0.1"],
    "ipFamilies": ["IPv4"],
    "ipFamilyPolicy": "SingleStack",
}
PORTS = {"ports": [{"port": 80}]}

UPDATES: list[tuple[str, str, Object, Object, list[str]]] = [
    ("apps/v1", "Deployment", workload(replicas=3), workload(), []),
    (
        "apps/v1",
        "Deployment",
        workload(selector={"matchLabels": {"a": "b", "c": "d"}}),
        workload(),
        [
            'spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`',
            'spec.selector: Invalid value: {"matchLabels":{"a":"b","c":"d"}}: field is immutable',
        ],
    ),
    (
        "apps/v1",
        "StatefulSet",
        workload(serviceName="b"),
        workload(serviceName="a"),
        [
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
            "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' "
            "are forbidden"
        ],
    ),
    (
        "v1",
        "ConfigMap",
        {"data": {"a": "2"}, "immutable": True},
        {"data": {"a": "1"}, "immutable": True},
        ["data: Forbidden: field is immutable when `immutable` is set"],
    ),
    ("v1", "Secret", {"type": "a"}, {"type": "b"}, ['type: Invalid value: "a": field is immutable']),
    (
        "v1",
        "Service",
        {"spec": {**CLUSTER_IP, **PORTS, "clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]}},
        {"spec": {**CLUSTER_IP, **PORTS}},
        ['spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set'],
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        {"roleRef": {"kind": "Role", "name": "a"}},
        {"roleRef": {"kind": "Role", "name": "b"}},
        [
            'roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"a"}: cannot change '
            "roleRef"
        ],
    ),
    (
        "storage.k8s.io/v1",
        "StorageClass",
        {"provisioner": "a", "parameters": {"a": "b"}},
        {"provisioner": "b"},
        [
            'parameters: Invalid value: {"a":"b"}: field is immutable',
            'provisioner: Invalid value: "a": field is immutable',
        ],
    ),
    (
        "scheduling.k8s.io/v1",
        "PriorityClass",
        {"value": 2},
        {"value": 1},
        ["value: Forbidden: may not be changed in an update."],
    ),
    (
        "networking.k8s.io/v1",
        "IngressClass",
        {"spec": {"controller": "a.b/c"}},
        {"spec": {"controller": "a.b/d"}},
        ['spec.controller: Invalid value: "a.b/c": field is immutable'],
    ),
]


@pytest.mark.parametrize(("api_version", "kind", "new", "old", "errors"), UPDATES)
def test_update(api_version: str, kind: str, new: Object, old: Object, errors: list[str]) -> None:
    assert update(api_version, kind, new, old) == errors


@pytest.mark.parametrize(
    ("api_version", "kind", "status", "errors"),
    [
        ("apps/v1", "Deployment", {"replicas": -1}, 4),
        ("apps/v1", "Deployment", {"replicas": 1, "readyReplicas": 2}, 1),
        ("apps/v1", "DaemonSet", {"numberReady": -1}, 1),
        ("v1", "Node", {"capacity": {"cpu": "-1"}}, 2),
        ("autoscaling/v2", "HorizontalPodAutoscaler", {"desiredReplicas": -1}, 1),
        ("policy/v1", "PodDisruptionBudget", {"currentHealthy": -1}, 1),
    ],
)
def test_status(api_version: str, kind: str, status: Object, errors: int) -> None:
    assert len(status_update(api_version, kind, {"status": status}, {})) == errors


def texts(errors: list[Any]) -> list[str]:
    return [short(str(e)) for e in errors]


def stored(obj: Object) -> Object:
    return made("v1", "Pod", {"metadata": {"resourceVersion": "1"}, **obj})


def test_resize() -> None:
    old = stored(changed({"resources": {"requests": {"cpu": "1"}}}))
    more = stored(changed({"resources": {"requests": {"cpu": "2"}}}))
    assert subresources.validate_pod_resize(more, old) == []
    best_effort = stored(pod())
    assert texts(subresources.validate_pod_resize(best_effort, old)) == [
        'spec: Invalid value: "": Pod QOS Class may not change as a result of resizing',
        "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
    ]
    image = stored(changed({"image": "other", "resources": {"requests": {"cpu": "1"}}}))
    assert texts(subresources.validate_pod_resize(image, old))[0].startswith("spec: Forbidden: only cpu and memory")


def test_ephemeral_containers() -> None:
    debug = {"name": "d", "image": "i"}
    old, new = stored(pod()), stored(pod(ephemeralContainers=[debug]))
    assert subresources.validate_ephemeral_containers_update(new, old) == []
    assert texts(subresources.validate_ephemeral_containers_update(old, new)) == [
        'spec.ephemeralContainers: Forbidden: existing ephemeral containers "d" may not be removed\n'
    ]
    ports = stored(pod(ephemeralContainers=[{**debug, "ports": [{"containerPort": 1}]}]))
    assert texts(subresources.validate_ephemeral_containers_update(ports, old)) == [
        "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container"
    ]


def test_objects_of_their_own() -> None:
    assert create("autoscaling/v1", "Scale", {"spec": {"replicas": -1}}) == [
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    ]
    assert create("v1", "Binding", {"target": {"name": "n"}}) == []
    assert create("authentication.k8s.io/v1", "TokenRequest", {"spec": {"expirationSeconds": 1 << 33}}) == [
        "spec.expirationSeconds: Invalid value: 8589934592: may not specify a duration larger than 2^32 seconds"
    ]


def signing_request() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


def test_certificate_signing_request() -> None:
    kind = ("certificates.k8s.io/v1", "CertificateSigningRequest")
    spec = {"request": signing_request(), "signerName": "example.com/s", "usages": ["client auth"]}
    assert create(*kind, {"spec": spec}) == []
    assert create(*kind, {"spec": {**spec, "usages": ["any", "any"], "expirationSeconds": 1}}) == [
        'spec.usages[1]: Duplicate value: "any"',
        "spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)",
    ]
    approved = {"spec": spec, "status": {"conditions": [{"type": "Approved", "status": "True"}]}}
    meta = {"metadata": {"resourceVersion": "1"}}
    assert update(*kind, approved, {"spec": spec}) == [
        'status.conditions: Forbidden: updates may not add a condition of type "Approved"'
    ]
    new, old = made(*kind, {**meta, **approved}), made(*kind, {**meta, "spec": spec})
    assert subresources.validate_csr_approval(new, old) == []
    assert texts(subresources.validate_csr_approval(old, new)) == [
        'status.conditions: Forbidden: updates may not remove a condition of type "Approved"'
    ]
    garbage = base64.b64encode(b"no certificate").decode()
    assert status_update(*kind, {"spec": spec, "status": {"certificate": garbage}}, {"spec": spec}) == [
        'status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block'
    ]
