"""The apps group: what is refused, and how it is said."""

from __future__ import annotations

import pytest

from tests.validation.making import create
from tiphys.api.object import Object

CASES: list[tuple[str, str, Object, list[str]]] = [
    (
        "apps/v1",
        "Deployment",
        {
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            }
        },
        [],
    ),
    (
        "apps/v1",
        "Deployment",
        {
            "spec": {
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
            }
        },
        [
            "spec.selector: Required value",
            ('spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`'),
        ],
    ),
    (
        "apps/v1",
        "Deployment",
        {
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
                "replicas": -1,
                "minReadySeconds": -1,
                "revisionHistoryLimit": -1,
            }
        },
        [
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0",
            "spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
        ],
    ),
    (
        "apps/v1",
        "Deployment",
        {
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
                "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}},
            }
        },
        [("spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0")],
    ),
    (
        "apps/v1",
        "Deployment",
        {
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
                "strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}},
            }
        },
        [("spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'")],
    ),
    (
        "apps/v1",
        "Deployment",
        {
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
                "progressDeadlineSeconds": 5,
                "minReadySeconds": 5,
            }
        },
        ["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"],
    ),
    (
        "apps/v1",
        "Deployment",
        {
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
                "strategy": {"rollingUpdate": {"maxSurge": "x%", "maxUnavailable": "200%"}},
            }
        },
        [
            (
                'spec.strategy.rollingUpdate.maxSurge: Invalid value: "x%": a valid percent string must be a '
                "numeric string followed by an ending '%'"
            ),
            ('spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "200%": must not be greater than 100%'),
        ],
    ),
    (
        "apps/v1",
        "StatefulSet",
        {
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
                "podManagementPolicy": "x",
                "updateStrategy": {"type": "y"},
            }
        },
        [
            "spec.podManagementPolicy: Invalid value: \"x\": must be 'OrderedReady' or 'Parallel'",
            (
                'spec.updateStrategy: Invalid value: {"Type":"y","RollingUpdate":null}: must be '
                "'RollingUpdate' or 'OnDelete'"
            ),
        ],
    ),
    (
        "apps/v1",
        "StatefulSet",
        {
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
                "ordinals": {"start": -1},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Keep"},
            }
        },
        [
            (
                'spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: "Keep": supported '
                'values: "Retain", "Delete"'
            ),
            "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
        ],
    ),
    (
        "apps/v1",
        "DaemonSet",
        {
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
                "updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
            }
        },
        [
            (
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when "
                "maxUnavailable is non-zero"
            )
        ],
    ),
    (
        "apps/v1",
        "ReplicaSet",
        {
            "spec": {
                "selector": {"matchLabels": {"x": "y"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            }
        },
        [('spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`')],
    ),
    (
        "apps/v1",
        "ControllerRevision",
        {"revision": -1},
        ["revision: Invalid value: -1: must be greater than or equal to 0", "data: Required value: data is mandatory"],
    ),
]


@pytest.mark.parametrize(("api_version", "kind", "obj", "errors"), CASES)
def test_create(api_version: str, kind: str, obj: Object, errors: list[str]) -> None:
    assert create(api_version, kind, obj) == errors
