"""Objects in several versions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tiphys.api import codec
from tiphys.api.conversion import ConversionError, convert
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind

V1, V2 = (GroupVersionKind("autoscaling", version, "HorizontalPodAutoscaler") for version in ("v1", "v2"))
CORE, EVENTS = GroupVersionKind("", "v1", "Event"), GroupVersionKind("events.k8s.io", "v1", "Event")
PREFIX = "autoscaling.alpha.kubernetes.io/"


def autoscaler(metrics: list[Any], **spec: Any) -> dict[str, Any]:
    obj = {
        "kind": "HorizontalPodAutoscaler",
        "apiVersion": "autoscaling/v2",
        "metadata": {"name": "x", "annotations": {"mine": "1"}},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "D", "name": "d"}, "metrics": metrics, **spec},
    }
    return codec.complete(obj, schema_for(V2))


CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 33}}}
OTHERS = [
    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
    {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
    {
        "type": "Object",
        "object": {
            "describedObject": {"kind": "S", "name": "s"},
            "metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}},
            "target": {"type": "Value", "value": "7"},
        },
    },
    {"type": "External", "external": {"metric": {"name": "e"}, "target": {"type": "Value", "value": "5"}}},
    {
        "type": "ContainerResource",
        "containerResource": {
            "name": "cpu",
            "container": "c",
            "target": {"type": "Utilization", "averageUtilization": 5},
        },
    },
]


def test_cpu_has_a_field_of_its_own_and_the_rest_travels_in_annotations() -> None:
    found = convert(autoscaler([CPU, OTHERS[0]]), V2, V1)
    assert found["apiVersion"] == "autoscaling/v1"
    assert found["spec"]["targetCPUUtilizationPercentage"] == 33
    assert "metrics" not in found["spec"]
    note = json.loads(found["metadata"]["annotations"][f"{PREFIX}metrics"])
    assert note == [{"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}}]
    assert found["metadata"]["annotations"]["mine"] == "1"


@pytest.mark.parametrize("behavior", [None, {"scaleDown": {"selectPolicy": "Min", "policies": []}}])
def test_there_and_back(behavior: Any) -> None:
    more = {"behavior": behavior} if behavior else {}
    obj = autoscaler([*OTHERS, CPU], **more)
    back = convert(convert(obj, V2, V1), V1, V2)
    assert back == json.loads(json.dumps(obj))


def test_no_metric_means_the_default_one() -> None:
    obj = {**autoscaler([]), "apiVersion": "autoscaling/v1"}
    obj["spec"].pop("metrics")
    target = convert(obj, V1, V2)["spec"]["metrics"][0]["resource"]["target"]
    assert target == {"type": "Utilization", "averageUtilization": 80}


@pytest.mark.parametrize("note", ["", "x", "3", "[3]", '[{"type":1}]', '[{"object":3}]', '{"ScaleUp":3}', "[[]]"])
def test_annotations_that_hold_anything_else_are_passed_over(note: str) -> None:
    obj = convert(autoscaler([CPU]), V2, V1)
    for name in ("metrics", "current-metrics", "conditions", "behavior"):
        obj["metadata"].setdefault("annotations", {})[PREFIX + name] = note
    found = convert(obj, V1, V2)
    assert found["spec"]["metrics"][-1] == CPU
    assert found["metadata"]["annotations"] == {"mine": "1"}


def test_status_with_conditions() -> None:
    obj = autoscaler([CPU])
    obj["status"] = {
        "currentReplicas": 1,
        "desiredReplicas": 2,
        "conditions": [{"type": "AbleToScale", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}],
        "currentMetrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "current": {"averageUtilization": 5, "averageValue": "3m"}},
            }
        ],
    }
    found = convert(obj, V2, V1)
    assert found["status"] == {"currentReplicas": 1, "desiredReplicas": 2, "currentCPUUtilizationPercentage": 5}
    assert convert(found, V1, V2)["status"] == obj["status"]


def test_events_are_the_same_objects_under_other_names() -> None:
    obj = codec.complete(
        {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod", "name": "x"},
            "message": "M",
            "source": {"component": "c"},
            "count": 3,
            "reportingComponent": "r",
            "reportingInstance": "i",
            "eventTime": "2020-01-01T00:00:00.000000Z",
        },
        schema_for(CORE),
    )
    found = convert(obj, CORE, EVENTS)
    assert found["note"] == "M"
    assert found["regarding"] == {"kind": "Pod", "name": "x"}
    assert found["deprecatedCount"] == 3
    assert found["reportingController"] == "r"
    assert convert(found, EVENTS, CORE) == obj


def test_definitions_as_the_original_stores_them() -> None:
    beta = GroupVersionKind("apiextensions.k8s.io", "v1beta1", "CustomResourceDefinition")
    obj = {
        "kind": "CustomResourceDefinition",
        "apiVersion": "apiextensions.k8s.io/v1beta1",
        "metadata": {"name": "foos.x.io"},
        "spec": {
            "group": "x.io",
            "version": "v1",
            "names": {"plural": "foos", "kind": "Foo"},
            "scope": "Namespaced",
            "validation": {"openAPIV3Schema": {"type": "object"}},
            "subresources": {"status": {}},
            "additionalPrinterColumns": [{"name": "A", "type": "string", "JSONPath": ".a"}],
            "versions": [{"name": "v1", "served": True, "storage": True}],
            "conversion": {
                "strategy": "Webhook",
                "webhookClientConfig": {"url": "u"},
                "conversionReviewVersions": ["v1"],
            },
        },
    }
    found = convert(obj, beta, GroupVersionKind("apiextensions.k8s.io", "v1", "CustomResourceDefinition"))
    version = found["spec"]["versions"][0]
    assert version["schema"] == {"openAPIV3Schema": {"type": "object"}}
    assert version["additionalPrinterColumns"] == [{"name": "A", "type": "string", "jsonPath": ".a"}]
    assert found["spec"]["conversion"]["webhook"]["clientConfig"] == {"url": "u"}


def test_no_way() -> None:
    with pytest.raises(ConversionError):
        convert({}, CORE, V1)
