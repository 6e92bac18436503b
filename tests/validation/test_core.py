"""The core group but for pods: what is refused, and how it is said."""

from __future__ import annotations

import pytest

from tests.validation.making import create
from tiphys.api.object import Object

CASES: list[tuple[str, str, Object, list[str]]] = [
    (
        "v1",
        "ConfigMap",
        {"data": {"a": "x", "b c": "y"}, "binaryData": {"a": "eA=="}},
        [
            'data[a]: Invalid value: "a": duplicate of key present in binaryData',
            (
                'data[b c]: Invalid value: "b c": a valid config key must consist of alphanumeric characters,'
                " '-', '_' or '.'"
            ),
        ],
    ),
    ("v1", "Secret", {"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}, ["data[tls.key]: Required value"]),
    (
        "v1",
        "Secret",
        {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "LWE="}},
        [
            (
                "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": invalid character 'a' "
                "in numeric literal"
            )
        ],
    ),
    (
        "v1",
        "Secret",
        {"type": "kubernetes.io/service-account-token"},
        ["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
    ),
    (
        "v1",
        "Namespace",
        {"spec": {"finalizers": ["mine"]}},
        [
            (
                'spec.finalizers: Invalid value: "mine": name is neither a standard finalizer name nor is it '
                "fully qualified"
            )
        ],
    ),
    (
        "v1",
        "Service",
        {"spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 0}, {"port": 80, "protocol": "X"}]}},
        [
            "spec.ports[0].name: Required value",
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[1].name: Required value",
            'spec.ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"',
        ],
    ),
    (
        "v1",
        "Service",
        {"spec": {"type": "ExternalName", "externalName": "a_b", "ports": []}},
        [
            (
                'spec.externalName: Invalid value: "a_b": a lowercase RFC 1123 subdomain must consist of '
                "lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric "
                "character"
            )
        ],
    ),
    (
        "v1",
        "Service",
        {
            "metadata": {"name": "1a"},
            "spec": {
                "clusterIP": "10.0.0.1",
                "clusterIPs": ["10.0.0.1"],
                "type": "NodePort",
                "ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}],
            },
        },
        ['spec.ports[1].name: Duplicate value: "a"'],
    ),
    (
        "v1",
        "Endpoints",
        {"subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 0}]}]},
        [
            (
                'subsets[0].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range '
                "(127.0.0.0/8, ::1/128)"
            ),
            "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ],
    ),
    (
        "v1",
        "PersistentVolumeClaim",
        {"spec": {}},
        [
            "spec.accessModes: Required value: at least 1 access mode is required",
            "spec.resources[storage]: Required value",
        ],
    ),
    (
        "v1",
        "PersistentVolume",
        {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}},
        ["spec: Required value: must specify a volume type"],
    ),
    (
        "v1",
        "LimitRange",
        {"spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}},
        [
            'spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
            (
                'spec.limits[0].defaultRequest[cpu]: Invalid value: "1": min value 2 is greater than default '
                "request value 1"
            ),
            'spec.limits[0].default[cpu]: Invalid value: "2": min value 2 is greater than default value 1',
        ],
    ),
    (
        "v1",
        "ResourceQuota",
        {"spec": {"hard": {"cpu": "-1", "bogus": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}},
        [
            'spec.hard[cpu]: Invalid value: "-1": must be greater than or equal to 0',
            'spec.hard[bogus]: Invalid value: "bogus": must be a standard resource type or fully qualified',
            'spec.hard[bogus]: Invalid value: "bogus": must be a standard resource for quota',
            ('spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: unsupported scope applied to resource'),
            'spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes',
        ],
    ),
    (
        "v1",
        "ReplicationController",
        {
            "spec": {
                "replicas": -1,
                "selector": {"x": "y"},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            }
        },
        [
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ('spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`'),
        ],
    ),
    (
        "v1",
        "Node",
        {"spec": {"podCIDRs": ["10.0.0.0/24", "10.1.0.0/24"], "taints": [{"key": "a", "effect": "x"}]}},
        [
            (
                'metadata.taints[0].effect: Unsupported value: "x": supported values: "NoSchedule", '
                '"PreferNoSchedule", "NoExecute"'
            ),
            (
                'spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.1.0.0/24"]: may specify no more than one '
                "CIDR for each IP family"
            ),
        ],
    ),
    (
        "v1",
        "Binding",
        {"target": {"kind": "Pod"}},
        ['target.kind: Unsupported value: "Pod": supported values: "Node", "<empty>"', "target.name: Required value"],
    ),
]


@pytest.mark.parametrize(("api_version", "kind", "obj", "errors"), CASES)
def test_create(api_version: str, kind: str, obj: Object, errors: list[str]) -> None:
    assert create(api_version, kind, obj) == errors


def test_taints_and_pods_to_avoid_in_annotations() -> None:
    key = "scheduler.alpha.kubernetes.io/"
    found = create("v1", "Node", {"metadata": {"annotations": {f"{key}taints": '[{"Key":"a"}]'}}})
    assert found == [f"metadata.annotations.{key}taints[0].effect: Required value"]
    found = create("v1", "Node", {"metadata": {"annotations": {f"{key}taints": "{}"}}})
    assert found == [
        f'metadata.annotations: Invalid value: "{key}taints": json: cannot unmarshal object into Go value of type '
        "[]core.Taint"
    ]
    found = create("v1", "Node", {"metadata": {"annotations": {f"{key}preferAvoidPods": '{"preferAvoidPods":[{}]}'}}})
    assert found == [f"metadata.annotations.{key}preferAvoidPods[0].PodSignature: Required value"]
