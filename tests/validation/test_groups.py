"""The smaller groups: what is refused, and how it is said."""

from __future__ import annotations

import pytest

from tests.validation.making import create
from tiphys.api.object import Object

CASES: list[tuple[str, str, Object, list[str]]] = [
    (
        "networking.k8s.io/v1",
        "Ingress",
        {
            "spec": {
                "rules": [{"host": "1.2.3.4", "http": {"paths": [{"path": "a", "pathType": "Exact", "backend": {}}]}}]
            }
        },
        [
            'spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address',
            'spec.rules[0].http.paths[0].path: Invalid value: "a": must be an absolute path',
            ('spec.rules[0].http.paths[0].backend: Invalid value: "": resource or service backend is required'),
        ],
    ),
    (
        "networking.k8s.io/v1",
        "Ingress",
        {"spec": {}},
        ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
    ),
    (
        "networking.k8s.io/v1",
        "IngressClass",
        {"spec": {"controller": "x"}},
        ['spec.controller: Invalid value: "x": must be a domain-prefixed path (such as "acme.io/foo")'],
    ),
    (
        "networking.k8s.io/v1",
        "NetworkPolicy",
        {
            "spec": {
                "podSelector": {},
                "ingress": [{"from": [{}], "ports": [{"port": 80, "endPort": 10}]}],
                "policyTypes": ["x"],
            }
        },
        [
            "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
            "spec.ingress[0].from[0]: Required value: must specify a peer",
            'spec.policyTypes[0]: Unsupported value: "x": supported values: "Ingress", "Egress"',
        ],
    ),
    (
        "networking.k8s.io/v1",
        "IPAddress",
        {"metadata": {"name": "10.0.0.01"}, "spec": {}},
        ['metadata.name: Invalid value: "10.0.0.01": must not have leading 0s', "spec.parentRef: Required value"],
    ),
    (
        "networking.k8s.io/v1",
        "ServiceCIDR",
        {"spec": {"cidrs": []}},
        ["spec.cidrs: Required value: at least one CIDR required"],
    ),
    (
        "policy/v1",
        "PodDisruptionBudget",
        {"spec": {"minAvailable": 1, "maxUnavailable": "101%", "selector": {}}},
        [
            (
                "spec: Invalid value: "
                '{"MinAvailable":1,"Selector":{},"MaxUnavailable":"101%","UnhealthyPodEvictionPolicy":null}: '
                "minAvailable and maxUnavailable cannot be both set"
            ),
            'spec.maxUnavailable: Invalid value: "101%": must not be greater than 100%',
        ],
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "Role",
        {"rules": [{"verbs": []}, {"verbs": ["get"], "nonResourceURLs": ["/x"]}]},
        [
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
            ('rules[1].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs'),
        ],
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        {"roleRef": {"kind": "Role", "name": ""}, "subjects": [{"kind": "ServiceAccount", "name": "a"}]},
        [
            'roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"',
            "roleRef.name: Required value",
            "subjects[0].namespace: Required value",
        ],
    ),
    (
        "storage.k8s.io/v1",
        "StorageClass",
        {"provisioner": "", "reclaimPolicy": "x"},
        ["provisioner: Required value", 'reclaimPolicy: Unsupported value: "x": supported values: "Delete", "Retain"'],
    ),
    (
        "storage.k8s.io/v1",
        "CSINode",
        {"spec": {"drivers": [{"name": "a", "nodeID": ""}, {"name": "a", "nodeID": "b"}]}},
        ["spec.drivers[0].nodeID: Required value", 'spec.drivers[1].name: Duplicate value: "a"'],
    ),
    (
        "storage.k8s.io/v1",
        "VolumeAttachment",
        {"spec": {"source": {}}},
        [
            "spec.attacher: Required value",
            ("spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
            (
                'spec.nodeName: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case '
                "alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
            ),
        ],
    ),
    (
        "storage.k8s.io/v1",
        "CSIStorageCapacity",
        {"storageClassName": "A"},
        [
            (
                'storageClassName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower '
                "case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric "
                "character"
            )
        ],
    ),
    (
        "scheduling.k8s.io/v1",
        "PriorityClass",
        {"metadata": {"name": "system-x"}, "value": 2000000001, "preemptionPolicy": "x"},
        [
            (
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system"
                " use only. error: system-x is not a known system priority class"
            ),
            'preemptionPolicy: Unsupported value: "x": supported values: "PreemptLowerPriority", "Never"',
        ],
    ),
    (
        "node.k8s.io/v1",
        "RuntimeClass",
        {"handler": "A"},
        [
            (
                'handler: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case '
                "alphanumeric characters or '-', and must start and end with an alphanumeric character"
            )
        ],
    ),
    (
        "coordination.k8s.io/v1",
        "Lease",
        {"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1, "preferredHolder": "x"}},
        [
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
        ],
    ),
    (
        "discovery.k8s.io/v1",
        "EndpointSlice",
        {"addressType": "IPv4", "endpoints": [{"addresses": ["::1"]}, {"addresses": []}], "ports": [{"name": "A"}]},
        [
            (
                'ports[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case '
                "alphanumeric characters or '-', and must start and end with an alphanumeric character"
            ),
            'endpoints[0].addresses: Invalid value: "::1": must be an IPv4 address',
            (
                'endpoints[0].addresses[0]: Invalid value: "::1": may not be in the loopback range '
                "(127.0.0.0/8, ::1/128)"
            ),
            "endpoints[1].addresses: Required value: must contain at least 1 address",
        ],
    ),
    (
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        {"spec": {"minReplicas": 3, "maxReplicas": 2, "scaleTargetRef": {"kind": "", "name": ""}}},
        [
            "spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`",
            "spec.scaleTargetRef.kind: Required value",
            "spec.scaleTargetRef.name: Required value",
            'spec.scaleTargetRef.apiVersion: Invalid value: "": apiVersion must specify API group',
        ],
    ),
    (
        "autoscaling/v1",
        "HorizontalPodAutoscaler",
        {
            "spec": {
                "maxReplicas": 0,
                "scaleTargetRef": {"kind": "Deployment", "name": "x", "apiVersion": "apps/v1"},
                "targetCPUUtilizationPercentage": 0,
            }
        },
        [
            "spec.maxReplicas: Required value: must be set and greater than 0",
            "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
            "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
        ],
    ),
    (
        "authorization.k8s.io/v1",
        "SubjectAccessReview",
        {"metadata": {"name": ""}, "spec": {}},
        [
            (
                "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or "
                "resourceAttributes must be specified"
            ),
            'spec.user: Invalid value: "": at least one of user or group must be specified',
        ],
    ),
    (
        "authentication.k8s.io/v1",
        "TokenRequest",
        {"spec": {"expirationSeconds": 5}},
        ["spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes"],
    ),
    (
        "events.k8s.io/v1",
        "Event",
        {"eventTime": "2024-01-01T00:00:00.000000Z", "type": "x"},
        [
            'involvedObject.namespace: Invalid value: "": does not match event.namespace',
            "reportingController: Required value",
            'reportingController: Invalid value: "": name part must be non-empty',
            (
                'reportingController: Invalid value: "": name part must consist of alphanumeric characters, '
                "'-', '_' or '.', and must start and end with an alphanumeric character"
            ),
            "reportingInstance: Required value",
            "action: Required value",
            "reason: Required value",
            'type: Invalid value: "": has invalid value: x',
        ],
    ),
]


@pytest.mark.parametrize(("api_version", "kind", "obj", "errors"), CASES)
def test_create(api_version: str, kind: str, obj: Object, errors: list[str]) -> None:
    assert create(api_version, kind, obj) == errors
