"""Warnings about what is accepted."""

from __future__ import annotations

import pytest

from tests.validation.making import CONTAINER, changed, gvk_of, made, pod
from tiphys.api.object import Object
from tiphys.validation import deprecated_api, warnings


def warned(api_version: str, kind: str, obj: Object, old: Object | None = None, subresource: str = "") -> list[str]:
    before = made(api_version, kind, old) if old is not None else None
    return warnings(made(api_version, kind, obj), before, gvk_of(api_version, kind), subresource)


PODS: list[tuple[Object, list[str]]] = [
    (pod(), []),
    (
        {"metadata": {"name": "a.b"}, **pod()},
        [
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label "
            "is recommended: [must not contain dots]"
        ],
    ),
    (
        pod(nodeSelector={"beta.kubernetes.io/os": "linux"}),
        ['spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead'],
    ),
    (
        pod(volumes=[{"name": "v", "gitRepo": {"repository": "r"}}]),
        ["spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"],
    ),
    (
        pod(
            volumes=[
                {
                    "name": "p",
                    "projected": {
                        "sources": [
                            {"configMap": {"name": "c", "items": [{"key": "k", "path": "a"}]}},
                            {"secret": {"name": "s", "items": [{"key": "k", "path": "a/b"}]}},
                            {},
                        ]
                    },
                }
            ]
        ),
        [
            'volume "p" (Projected): overlapping paths: "a/b" (Secret "s") with "a" (ConfigMap "c")',
            'volume "p" (Projected) has no sources provided',
        ],
    ),
    (
        changed({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
        ['spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply'],
    ),
    (changed({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A):2"}]}), []),
    (
        changed({"ports": [{"containerPort": 80}, {"containerPort": 80, "hostPort": 81}]}),
        ["spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]"],
    ),
    (
        changed({"resources": {"limits": {"memory": "100m"}, "requests": {"memory": "1"}}}),
        [
            'spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer',
        ],
    ),
    (
        pod(topologySpreadConstraints=[{"topologyKey": "x"}]),
        ["spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod"],
    ),
    (
        pod(hostAliases=[{"ip": "01.2.3.4"}]),
        ['spec.hostAliases[0].ip: non-standard IP address "01.2.3.4" is invalid: use "1.2.3.4"'],
    ),
    (pod(imagePullSecrets=[{}]), ['spec.imagePullSecrets[0].name: invalid empty name ""']),
]


@pytest.mark.parametrize(("obj", "found"), PODS)
def test_pod(obj: Object, found: list[str]) -> None:
    assert warned("v1", "Pod", obj) == found


def test_updates_of_pods_are_not_looked_at() -> None:
    obj = pod(nodeSelector={"beta.kubernetes.io/os": "linux"})
    assert warned("v1", "Pod", obj, old=obj) == []


def test_templates_only_when_they_change() -> None:
    template = pod(volumes=[{"name": "v", "rbd": {"monitors": ["m"], "image": "i"}}])
    at = "spec.template.spec.volumes[0].rbd: deprecated in v1.28, non-functional in v1.31+"
    new, old = ({"metadata": {"generation": n}, "spec": {"template": template}} for n in (2, 1))
    assert warned("apps/v1", "Deployment", new) == [at]
    assert warned("apps/v1", "Deployment", new, old) == [at]
    assert warned("apps/v1", "Deployment", new, new) == []


OTHERS: list[tuple[str, str, Object, list[str]]] = [
    (
        "v1",
        "Service",
        {"spec": {"clusterIP": "None", "sessionAffinity": "ClientIP", "externalIPs": ["1.2.3.4"]}},
        [
            "spec.externalIPs is ignored for headless services",
            "spec.SessionAffinity is ignored for headless services",
        ],
    ),
    (
        "v1",
        "Service",
        {"spec": {"externalName": "x", "trafficDistribution": "PreferClose", "externalIPs": ["1.2.3.4"]}},
        [
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
            'spec.externalName is ignored when spec.type is not "ExternalName"',
            'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"',
        ],
    ),
    ("v1", "Secret", {"type": "kubernetes.io/tls"}, ["tls: failed to find any PEM data in certificate input"]),
    (
        "v1",
        "PersistentVolume",
        {"spec": {"persistentVolumeReclaimPolicy": "Recycle"}},
        [
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended "
            "approach is to use dynamic provisioning."
        ],
    ),
    (
        "v1",
        "PersistentVolumeClaim",
        {"spec": {"resources": {"requests": {"storage": "1m"}}}},
        ['spec.resources.requests[storage]: fractional byte value "1m" is invalid, must be an integer'],
    ),
    (
        "v1",
        "ResourceQuota",
        {"spec": {"hard": {"cpu": "2", "limits.cpu": "1"}}},
        ["ResourceQuota cpu (2) should be less than limits.cpu (1)"],
    ),
    (
        "networking.k8s.io/v1",
        "Ingress",
        {"metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}, "spec": {}},
        ["annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"],
    ),
    (
        "networking.k8s.io/v1",
        "NetworkPolicy",
        {"spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}]}},
        [
            'spec.ingress[0].from[0].ipBlock.cidr: CIDR value "10.0.0.1/8" is ambiguous in this context (should be '
            '"10.0.0.0/8" or "10.0.0.1/32"?)'
        ],
    ),
    (
        "discovery.k8s.io/v1",
        "EndpointSlice",
        {"addressType": "FQDN", "endpoints": []},
        ["spec.addressType: FQDN endpoints are deprecated"],
    ),
    (
        "batch/v1",
        "CronJob",
        {"metadata": {"name": "a.b"}, "spec": {"jobTemplate": {"spec": {"template": {"spec": {}}}}}},
        [
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS "
            "label is recommended: [must not contain dots]"
        ],
    ),
    (
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        {
            "spec": {
                "versions": [
                    {
                        "name": "v1",
                        "schema": {
                            "openAPIV3Schema": {
                                "properties": {
                                    "a": {"type": "string", "format": "date-time"},
                                    "b": {"type": "string", "format": "odd"},
                                    "c": {"type": "integer", "format": "int16"},
                                }
                            }
                        },
                    }
                ]
            }
        },
        ['unrecognized format "odd"', 'unrecognized format "int16"'],
    ),
    ("v1", "ConfigMap", {}, []),
]


@pytest.mark.parametrize(("api_version", "kind", "obj", "found"), OTHERS)
def test_others(api_version: str, kind: str, obj: Object, found: list[str]) -> None:
    assert warned(api_version, kind, obj) == found


def test_status() -> None:
    status = {"spec": {"containers": [CONTAINER]}, "status": {"podIPs": [{"ip": "::0001"}]}}
    assert warned("v1", "Pod", status, status, "status") == [
        'status.podIPs[0].ip: IPv6 address "::0001" should be in RFC 5952 canonical format ("::1")'
    ]


def test_deprecated_kinds() -> None:
    assert deprecated_api(gvk_of("v1", "Endpoints")) == (
        "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
    )
    assert deprecated_api(gvk_of("v1", "Pod")) == ""
