"""Defaults of single kinds: what the recorded cases do not show."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tiphys.api.defaults import apply_defaults
from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind


def defaulted(api_version: str, kind: str, obj: Object) -> Object:
    group, _, version = api_version.rpartition("/")
    made = copy.deepcopy(obj)
    apply_defaults(made, GroupVersionKind(group, version, kind))
    return made


def pod(spec: Object, **rest: Any) -> Object:
    return defaulted("v1", "Pod", {"metadata": {"name": "x"}, "spec": spec, **rest})


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.25", "IfNotPresent"),
        ("host:5000/nginx", "Always"),
        ("host:5000/nginx:v1", "IfNotPresent"),
        ("nginx@sha256:" + "0" * 64, "IfNotPresent"),
        ("nginx:latest@sha256:" + "0" * 64, "Always"),
    ],
)
def test_pull_policy(image: str, policy: str) -> None:
    assert pod({"containers": [{"name": "c", "image": image}]})["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_pod() -> None:
    spec = pod({"containers": []})["spec"]
    assert spec == {
        "containers": [],
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
    }


def test_defaulting_twice_changes_nothing() -> None:
    once = pod({"containers": [{"name": "c", "image": "i", "livenessProbe": {"httpGet": {"port": 1}}}]})
    assert defaulted("v1", "Pod", once) == once


def test_null_counts_as_missing() -> None:
    assert pod({"containers": [], "restartPolicy": None, "securityContext": None})["spec"]["restartPolicy"] == "Always"


def test_requests_come_from_limits() -> None:
    container = {"name": "c", "resources": {"limits": {"cpu": "1"}, "requests": {"memory": "1Gi"}}}
    made = pod({"containers": [container]})["spec"]["containers"][0]
    assert made["resources"]["requests"] == {"memory": "1Gi", "cpu": "1"}


def test_templates_keep_their_requests() -> None:
    """Only the pod itself gets them."""
    container = {"name": "c", "resources": {"limits": {"cpu": "1"}}}
    template = {"spec": {"containers": [container]}}
    made = defaulted("apps/v1", "Deployment", {"spec": {"template": template}})
    assert "requests" not in made["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert "enableServiceLinks" not in made["spec"]["template"]["spec"]


def test_host_network_takes_the_ports_of_the_host() -> None:
    made = pod({"hostNetwork": True, "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]})
    assert made["spec"]["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP", "hostPort": 80}]


@pytest.mark.parametrize("given", [{"serviceAccount": "a"}, {"serviceAccountName": "a", "serviceAccount": "b"}])
def test_service_account_has_two_names(given: Object) -> None:
    spec = pod({"containers": [], **given})["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("a", "a")


@pytest.mark.parametrize(
    ("status", "made"),
    [
        ({"podIP": "1.1.1.1"}, {"podIP": "1.1.1.1", "podIPs": [{"ip": "1.1.1.1"}]}),
        ({"podIPs": [{"ip": "1.1.1.1"}]}, {"podIP": "1.1.1.1", "podIPs": [{"ip": "1.1.1.1"}]}),
        ({"podIP": "2.2.2.2", "podIPs": [{"ip": "1.1.1.1"}]}, {"podIP": "2.2.2.2", "podIPs": [{"ip": "2.2.2.2"}]}),
    ],
)
def test_addresses_of_a_pod(status: Object, made: Object) -> None:
    assert pod({"containers": []}, status=status)["status"] == made


def test_secret_text_becomes_data() -> None:
    secret = {"data": {"a": "MQ==", "b": "Mg=="}, "stringData": {"b": "new", "c": ""}}
    made = defaulted("v1", "Secret", secret)
    assert made == {"type": "Opaque", "data": {"a": "MQ==", "b": "bmV3", "c": ""}}


def test_node_blocks() -> None:
    assert defaulted("v1", "Node", {"spec": {"podCIDR": "10.0.0.0/24"}})["spec"]["podCIDRs"] == ["10.0.0.0/24"]


DEFAULTS: list[tuple[str, str, Object, Object]] = [
    (
        "v1",
        "Service",
        {"spec": {}},
        {"spec": {"sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster"}},
    ),
    (
        "v1",
        "Service",
        {"spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}},
        {
            "spec": {
                "type": "LoadBalancer",
                "sessionAffinity": "None",
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
                "externalTrafficPolicy": "Cluster",
                "internalTrafficPolicy": "Cluster",
                "allocateLoadBalancerNodePorts": True,
            }
        },
    ),
    (
        "v1",
        "Service",
        {"spec": {"type": "ExternalName"}},
        {"spec": {"type": "ExternalName", "sessionAffinity": "None"}},
    ),
    (
        "policy/v1",
        "PodDisruptionBudget",
        {"spec": {"maxUnavailable": 1}},
        {"spec": {"maxUnavailable": 1}},
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        {"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]},
        {
            "roleRef": {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"},
            "subjects": [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}],
        },
    ),
    (
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        {"spec": {"names": {"plural": "foos", "kind": "Foo"}, "versions": [{"name": "v1", "storage": True}]}},
        {
            "spec": {
                "names": {"plural": "foos", "kind": "Foo", "singular": "foo", "listKind": "FooList"},
                "versions": [{"name": "v1", "storage": True}],
                "conversion": {"strategy": "None"},
            },
            "status": {"storedVersions": ["v1"]},
        },
    ),
]


@pytest.mark.parametrize(("api_version", "kind", "obj", "made"), DEFAULTS)
def test_defaults(api_version: str, kind: str, obj: Object, made: Object) -> None:
    assert defaulted(api_version, kind, obj) == made
