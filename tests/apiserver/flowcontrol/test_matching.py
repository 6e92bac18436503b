"""Which flow schema a request belongs to, and how much of the server it takes."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.apiserver.bootstrap.flowcontrol import flow_schemas
from tiphys.apiserver.call import User
from tiphys.apiserver.flowcontrol.matching import read_schema
from tiphys.apiserver.flowcontrol.work import RequestWork, estimate, largest
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
        (about("get", "pods"), {}, 5000, 0, RequestWork()),
        (about("list", "pods"), {}, None, 0, RequestWork()),
        (about("list", "pods"), {}, 90, 0, RequestWork()),
        (about("list", "pods"), {}, 450, 0, RequestWork(5)),
        (about("list", "pods"), {}, 99_999, 0, RequestWork(10)),
        (about("list", "pods"), {"limit": ["150"]}, 99_999, 0, RequestWork(2)),
        (about("list", "pods", name="x"), {}, 99_999, 0, RequestWork()),
        (about("watch", "pods"), {"resourceVersion": ["7"]}, 450, 0, RequestWork()),
        (about("watch", "pods"), {"resourceVersion": ["0"]}, 450, 0, RequestWork(5)),
        (about("watch", "pods"), {"resourceVersion": ["7"], "sendInitialEvents": ["true"]}, 450, 0, RequestWork(5)),
        (about("create", "pods"), {}, 0, 9, RequestWork()),
        (about("create", "pods"), {}, 0, 45, RequestWork(1, 5, 0.005)),
        (about("patch", "pods"), {}, 0, 200, RequestWork(1, 10, 0.01)),
    ],
)
def test_the_work_of_a_request(
    info: RequestInfo, parameters: dict[str, list[str]], objects: int | None, watches: int, work: RequestWork
) -> None:
    assert estimate(info, parameters, 10, lambda group, resource: objects, lambda info: watches) == work


def test_one_request_takes_a_seventh_of_its_level_at_the_most() -> None:
    assert [largest(seats) for seats in (0, 1, 13, 49, 245)] == [10, 1, 2, 8, 10]
