"""Status objects: code, reason, message and details as documented."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api import errors, fielderrors
from tiphys.api.errors import StatusError
from tiphys.api.fielderrors import OMITTED, FieldError, FieldErrorType, Rendered

CASES: list[tuple[StatusError, int, str, str, dict[str, Any] | None]] = [
    (errors.bad_request("no"), 400, "BadRequest", "no", None),
    (errors.unauthorized(), 401, "Unauthorized", "Unauthorized", None),
    (
        errors.forbidden("apps", "deployments", "x", "because"),
        403,
        "Forbidden",
        'deployments.apps "x" is forbidden: because',
        {"name": "x", "group": "apps", "kind": "deployments"},
    ),
    (errors.forbidden("", "", "", "because"), 403, "Forbidden", "forbidden: because", {}),
    (errors.not_found("", "pods", "x"), 404, "NotFound", 'pods "x" not found', {"name": "x", "kind": "pods"}),
    (
        errors.already_exists("", "pods", "x"),
        409,
        "AlreadyExists",
        'pods "x" already exists',
        {"name": "x", "kind": "pods"},
    ),
    (
        errors.conflict("", "pods", "x"),
        409,
        "Conflict",
        'Operation cannot be fulfilled on pods "x": the object has been modified; '
        "please apply your changes to the latest version and try again",
        {"name": "x", "kind": "pods"},
    ),
    (errors.expired("too old"), 410, "Expired", "too old", None),
    (errors.too_many_requests("slow", 3), 429, "TooManyRequests", "slow", {"retryAfterSeconds": 3}),
    (
        errors.internal("boom"),
        500,
        "InternalError",
        "Internal error occurred: boom",
        {"causes": [{"message": "boom"}]},
    ),
    (
        errors.too_large_resource_version(1, 9),
        504,
        "Timeout",
        "Timeout: Too large resource version: 9, current: 1",
        {
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
    ),
    (
        errors.not_authorized("<u>", "get", group="apps", resource="deployments", subresource="scale", namespace="n"),
        403,
        "Forbidden",
        'deployments.apps is forbidden: User "&lt;u&gt;" cannot get resource "deployments/scale" '
        'in API group "apps" in the namespace "n"',
        {"group": "apps", "kind": "deployments"},
    ),
]


@pytest.mark.parametrize(("error", "code", "reason", "message", "details"), CASES)
def test_statuses(error: StatusError, code: int, reason: str, message: str, details: dict[str, Any] | None) -> None:
    expected: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    expected |= {"message": message, "reason": reason, "code": code}
    if details is not None:
        expected["details"] = details
    assert error.status == expected
    assert list(error.status)[-1] == "code"


def test_retry_after() -> None:
    assert errors.too_many_requests("slow", 3).headers == {"Retry-After": "3"}
    assert errors.bad_request("no").headers == {}


def test_invalid_tells_every_cause_and_each_message_once() -> None:
    found = [fielderrors.required("a"), fielderrors.required("a"), fielderrors.invalid("b", {"x": 1}, "bad")]
    error = errors.invalid("apps", "Deployment", "x", found)
    assert error.message == 'Deployment.apps "x" is invalid: [a: Required value, b: Invalid value: {"x":1}: bad]'
    assert error.status["details"]["causes"] == [
        {"reason": "FieldValueRequired", "message": "Required value", "field": "a"},
        {"reason": "FieldValueRequired", "message": "Required value", "field": "a"},
        {"reason": "FieldValueInvalid", "message": 'Invalid value: {"x":1}: bad', "field": "b"},
    ]


@pytest.mark.parametrize(
    ("error", "body"),
    [
        (fielderrors.not_supported("f", "x", ["A", "B"]), 'Unsupported value: "x": supported values: "A", "B"'),
        (fielderrors.too_long("f", 1), "Too long: may not be more than 1 byte"),
        (fielderrors.too_many("f", 3, 2), "Too many: 3: must have at most 2 items"),
        (fielderrors.too_many("f", -1, 1), "Too many: must have at most 1 item"),
        (fielderrors.duplicate("f", 5), "Duplicate value: 5"),
        (fielderrors.forbidden("f", "no"), "Forbidden: no"),
        (fielderrors.not_found("f", "x"), 'Not found: "x"'),
        (fielderrors.internal("f", "boom"), "Internal error: boom"),
        (fielderrors.invalid("f", Rendered("{raw}"), "d"), "Invalid value: {raw}: d"),
        (FieldError(FieldErrorType.INVALID, "f", OMITTED, "d"), "Invalid value: d"),
        (fielderrors.invalid("f", True, "d"), "Invalid value: true: d"),
    ],
)
def test_field_errors(error: FieldError, body: str) -> None:
    assert error.body == body
    assert str(error) == f"f: {body}"
