"""Which flow schema a request belongs to, and how much of the server it takes."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.apiserver.bootstrap.flowcontrol import flow_schemas
from tiphys.apiserver.call import User
from tiphys.apiserver.flowcontrol.matching import read_schema
from tiphys.apiserver.flowcontrol.work import RequestWork, Stored, estimate, largest
from tiphys.apiserver.requestinfo import RequestInfo

SCHEMAS = sorted(map(read_schema, flow_schemas()), key=lambda schema: (schema.precedence, schema.name))

ADMIN = User("admin", ("system:masters", "system:authenticated"))
NODE = User("system:node:n1", ("system:nodes", "system:authenticated"))
MANAGER = User("system:kube-controller-manager", ("system:authenticated",))
SYSTEM = User("system:serviceaccount:kube-system:x", ("system:serviceaccounts", "system:authenticated"))
ACCOUNT = User("system:serviceaccount:shop:x", ("system:serviceaccounts", "system:authenticated"))
ANN = User("ann", ("system:authenticated",))
STRANGER = User("system:anonymous", ("system:unauthenticated",))


def about(verb: str, resource: str, group: str = "", namespace: str = "shop", name: str = "") -> RequestInfo:
    info = RequestInfo(verb, "/path", group, "v1", namespace, resource)
    info.name = name
    return info


@pytest.mark.parametrize(
    ("user", "info", "schema", "flow"),
    [
        (ADMIN, about("list", "pods"), "exempt", ""),
        (STRANGER, RequestInfo("get", "/readyz"), "probes", ""),
        (STRANGER, RequestInfo("get", "/readyz/etcd"), "probes", ""),
        (STRANGER, RequestInfo("get", "/version"), "global-default", "system:anonymous"),
        (MANAGER, about("update", "leases", "coordination.k8s.io"), "system-leader-election", MANAGER.name),
        (MANAGER, about("patch", "leases", "coordination.k8s.io"), "kube-controller-manager", "shop"),
        (NODE, about("update", "leases", "coordination.k8s.io"), "system-node-high", NODE.name),
        (NODE, about("patch", "nodes", namespace=""), "system-node-high", NODE.name),
        (NODE, about("get", "pods"), "system-nodes", NODE.name),
        (SYSTEM, about("get", "pods"), "kube-system-service-accounts", "shop"),
        (ACCOUNT, about("get", "pods"), "service-accounts", ACCOUNT.name),
        (ANN, about("get", "pods"), "global-default", "ann"),
        (User("nobody"), about("get", "pods"), "catch-all", "nobody"),
    ],
)
def test_the_default_schemas(user: User, info: RequestInfo, schema: str, flow: str) -> None:
    found = next((row for row in SCHEMAS if row.matches(user, info)), SCHEMAS[-1])
    assert (found.name, found.flow(user, info)) == (schema, flow)


@pytest.mark.parametrize(
    ("rule", "info", "matches"),
    [
        ({"verbs": ["get"], "resources": ["pods/log"]}, about("get", "pods"), False),
        ({"namespaces": ["shop"]}, about("get", "pods"), True),
        ({"namespaces": ["other"]}, about("get", "pods"), False),
        ({"namespaces": ["*"]}, about("get", "nodes", namespace=""), False),
        ({"namespaces": ["*"], "clusterScope": True}, about("get", "nodes", namespace=""), True),
        ({"apiGroups": ["apps"]}, about("get", "pods"), False),
        ({"verbs": ["*", "get"]}, about("list", "pods"), False),
    ],
)
def test_a_rule_for_resources(rule: dict[str, Any], info: RequestInfo, matches: bool) -> None:
    row = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], **rule}
    subject = {"kind": "User", "user": {"name": "*"}}
    rules = [{"subjects": [subject], "resourceRules": [row]}]
    spec = {"priorityLevelConfiguration": {"name": "l"}, "rules": rules}
    assert read_schema({"metadata": {"name": "s"}, "spec": spec}).matches(ANN, info) is matches


@pytest.mark.parametrize(
    ("info", "parameters", "objects", "watches", "work"),
    [
        (about("get", "pods"), {}, (5000, 2000), 0, RequestWork()),
        (about("list", "pods"), {}, None, 0, RequestWork()),
        (about("list", "pods"), {}, (0, 0), 0, RequestWork()),
        (about("list", "pods"), {}, (50, 2000), 0, RequestWork()),
        (about("list", "pods"), {}, (51, 2000), 0, RequestWork(2)),
        (about("list", "pods"), {}, (99_999, 2000), 0, RequestWork(10)),
        (about("list", "pods"), {"limit": ["150"]}, (99_999, 2000), 0, RequestWork(3)),
        (about("list", "secrets"), {}, (3, 1_000_000), 0, RequestWork(10)),
        (about("list", "pods", name="x"), {}, (99_999, 2000), 0, RequestWork()),
        (about("list", "pods", name="x"), {}, (99_999, 250_000), 0, RequestWork(3)),
        (about("list", "pods"), {"limit": ["1000"], "continue": ["x"]}, (99_999, 2000), 0, RequestWork(20)),
        (about("list", "pods"), {"continue": ["x"]}, (99_999, 2000), 0, RequestWork(40)),
        (about("list", "pods"), {"limit": ["9"], "resourceVersion": ["7"]}, (99_999, 20_000), 0, RequestWork(2)),
        (about("list", "pods"), {"resourceVersion": ["7"]}, (99_999, 2000), 0, RequestWork(10)),
        (
            about("list", "pods"),
            {"limit": ["9"], "resourceVersion": ["7"], "labelSelector": ["a"]},
            (100, 50_000),
            0,
            RequestWork(25),
        ),
        (
            about("list", "pods"),
            {"resourceVersion": ["7"], "resourceVersionMatch": ["Exact"]},
            (100, 20_000),
            0,
            RequestWork(20),
        ),
        (
            about("list", "pods"),
            {"limit": ["100"], "resourceVersion": ["7"], "resourceVersionMatch": ["NotOlderThan"]},
            (100, 20_000),
            0,
            RequestWork(10),
        ),
        (about("watch", "pods"), {"resourceVersion": ["7"]}, (450, 1000), 0, RequestWork()),
        (about("watch", "pods"), {"resourceVersion": ["0"]}, (450, 1000), 0, RequestWork(5)),
        (
            about("watch", "pods"),
            {"resourceVersion": ["0"], "sendInitialEvents": ["false"]},
            (450, 1000),
            0,
            RequestWork(5),
        ),
        (
            about("watch", "pods"),
            {"resourceVersion": ["7"], "sendInitialEvents": ["true"], "resourceVersionMatch": ["NotOlderThan"]},
            (450, 1000),
            0,
            RequestWork(5),
        ),
        (about("create", "pods"), {}, None, 9, RequestWork()),
        (about("create", "pods"), {}, None, 45, RequestWork(1, 5, 0.005)),
        (about("patch", "pods"), {}, None, 200, RequestWork(1, 10, 0.01)),
    ],
)
def test_the_work_of_a_request(
    info: RequestInfo,
    parameters: dict[str, list[str]],
    objects: tuple[int, int] | None,
    watches: int,
    work: RequestWork,
) -> None:
    """The widths are those of upstream's estimator, at a level that lets one request take 40 seats."""
    stored = None if objects is None else Stored(*objects)
    assert estimate(info, parameters, 40, lambda group, resource: stored, lambda info: watches) == work


@pytest.mark.parametrize(
    ("objects", "total", "parameters", "past", "now"),
    [
        (99, 99_999, {}, 1, 1),
        (10, 99_999, {}, 1, 1),
        (1000, 999_999, {}, 10, 10),
        (1000, 999_999, {"limit": ["100"]}, 1, 1),
        (1000, 999_999, {"limit": ["100"], "fieldSelector": ["a=b"]}, 5, 1),
        (99, 999_999, {}, 10, 10),
        (99, 999_999, {"limit": ["10"]}, 2, 2),
        (99, 999_999, {"limit": ["10"], "labelSelector": ["a"]}, 5, 2),
        (1000, 9_999_999, {}, 100, 10),
        (1000, 9_999_999, {"limit": ["100"]}, 10, 10),
        (1000, 9_999_999, {"limit": ["100"], "labelSelector": ["a"]}, 50, 10),
        (99, 9_999_999, {}, 100, 10),
        (99, 9_999_999, {"limit": ["10"]}, 11, 10),
        (99, 9_999_999, {"limit": ["10"], "fieldSelector": ["a=b"]}, 50, 10),
    ],
)
def test_lists_are_as_wide_as_upstream_finds_them(
    objects: int, total: int, parameters: dict[str, list[str]], past: int, now: int
) -> None:
    """The numbers are those of upstream's own table: of a list of the past, which it reads from its store, and now."""
    stored = Stored(objects, total // objects)

    def seats(**more: list[str]) -> int:
        info = about("list", "pods")
        return estimate(info, {**parameters, **more}, 100, lambda group, resource: stored, lambda info: 0).initial

    assert seats(resourceVersion=["7"], resourceVersionMatch=["Exact"]) == past
    assert seats() == seats(resourceVersion=["0"]) == now


def test_one_request_takes_a_seventh_of_its_level_at_the_most_and_one_part_of_a_hand() -> None:
    assert [largest(seats, 1) for seats in (0, 1, 13, 49, 245, 2000)] == [1, 1, 2, 8, 37, 100]
    assert [largest(seats, 8) for seats in (0, 7, 49, 245)] == [1, 1, 6, 30]
    assert [largest(seats, 0) for seats in (0, 20)] == [100, 100]  # without queues
