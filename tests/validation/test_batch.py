"""The batch group: what is refused, and how it is said."""

from __future__ import annotations

import pytest

from tests.validation.making import create
from tiphys.api.object import Object

CASES: list[tuple[str, str, Object, list[str]]] = [
    (
        "batch/v1",
        "Job",
        {
            "spec": {
                "manualSelector": True,
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            }
        },
        ['spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'],
    ),
    (
        "batch/v1",
        "Job",
        {
            "spec": {
                "manualSelector": True,
                "selector": {"matchLabels": {"a": "b"}},
                "template": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"},
                },
                "completions": -1,
                "backoffLimit": -1,
                "ttlSecondsAfterFinished": -1,
            }
        },
        [
            "spec.completions: Invalid value: -1: must be greater than or equal to 0",
            "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0",
            "spec.ttlSecondsAfterFinished: Invalid value: -1: must be greater than or equal to 0",
        ],
    ),
    (
        "batch/v1",
        "Job",
        {
            "spec": {
                "manualSelector": True,
                "selector": {"matchLabels": {"a": "b"}},
                "completionMode": "Indexed",
                "template": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"},
                },
            }
        },
        [],
    ),
    (
        "batch/v1",
        "CronJob",
        {
            "spec": {
                "schedule": "* * *",
                "concurrencyPolicy": "x",
                "jobTemplate": {
                    "spec": {
                        "template": {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}
                    }
                },
            }
        },
        [
            'spec.schedule: Invalid value: "* * *": expected exactly 5 fields, found 3: [* * *]',
            'spec.concurrencyPolicy: Unsupported value: "x": supported values: "Allow", "Forbid", "Replace"',
        ],
    ),
    (
        "batch/v1",
        "CronJob",
        {
            "spec": {
                "schedule": "TZ=UTC * * * * *",
                "timeZone": "Nowhere/X",
                "jobTemplate": {
                    "spec": {
                        "template": {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}
                    }
                },
            }
        },
        [
            (
                'spec.schedule: Invalid value: "TZ=UTC * * * * *": cannot use TZ or CRON_TZ in schedule, use '
                "timeZone field instead"
            ),
            'spec.timeZone: Invalid value: "Nowhere/X": unknown time zone Nowhere/X',
        ],
    ),
    (
        "batch/v1",
        "CronJob",
        {
            "metadata": {"name": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},
            "spec": {
                "schedule": "@every 1h",
                "jobTemplate": {
                    "spec": {
                        "template": {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}
                    }
                },
            },
        },
        [
            (
                'metadata.name: Invalid value: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx": must '
                "be no more than 52 characters"
            )
        ],
    ),
]


@pytest.mark.parametrize(("api_version", "kind", "obj", "errors"), CASES)
def test_create(api_version: str, kind: str, obj: Object, errors: list[str]) -> None:
    assert create(api_version, kind, obj) == errors
