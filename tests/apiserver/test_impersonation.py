"""Acting as somebody else, in the constrained modes and in the old way."""

from __future__ import annotations

import asyncio

import pytest

from tiphys.api.errors import StatusError
from tiphys.apiserver.authz.authorizer import Access, Decision, Verdict
from tiphys.apiserver.authz.impersonation import MODES, complete, refusal
from tiphys.apiserver.call import User
from tiphys.apiserver.filters.impersonation import wanted_user
from tiphys.wire.http import Headers

BY_NAME = {mode.name: mode for mode in MODES}
CALLER = User("eve")
REQUEST = Access(CALLER, "list", "", "v1", "pods")


class Grants:
    """Allows the given (verb, resource, name), and notes what it was asked."""

    def __init__(self, *granted: tuple[str, str, str]) -> None:
        self.granted = granted
        self.asked: list[tuple[str, str, str]] = []

    async def authorize(self, access: Access) -> Decision:
        question = (access.verb, access.full_resource, access.name)
        self.asked.append(question)
        return Decision(Verdict.ALLOW if question in self.granted else Verdict.NO_OPINION)


def refused(grants: Grants, mode: str, wanted: User) -> Access | None:
    found = asyncio.run(refusal(grants, BY_NAME[mode], wanted, REQUEST))
    return None if found is None else found[0]


def test_a_constrained_mode_asks_for_the_request_and_for_the_user() -> None:
    grants = Grants(("impersonate-on:user-info:list", "pods", ""), ("impersonate:user-info", "users", "bob"))
    assert refused(grants, "user-info", User("bob")) is None
    assert refused(Grants(grants.granted[1]), "user-info", User("bob")) == Access(
        CALLER, "impersonate-on:user-info:list", "", "v1", "pods"
    )


def test_the_old_way_asks_for_each_part_of_the_user() -> None:
    wanted = User("bob", ("devs",), "7", (("scopes", ("a",)),))
    grants = Grants(
        ("impersonate", "users", "bob"),
        ("impersonate", "uids", "7"),
        ("impersonate", "groups", "devs"),
        ("impersonate", "userextras/scopes", "a"),
    )
    assert refused(grants, "", wanted) is None
    assert tuple(grants.asked) == grants.granted


def test_the_privileged_group_is_out_of_reach_of_constrained_modes() -> None:
    grants = Grants(("impersonate-on:user-info:list", "pods", ""), ("impersonate:user-info", "users", "bob"))
    found = asyncio.run(refusal(grants, BY_NAME["user-info"], User("bob", ("system:masters",)), REQUEST))
    assert found is not None
    assert found[1].reason == "impersonating the system:masters group is not allowed"


def test_an_agent_may_be_the_node_it_runs_on() -> None:
    place = (("authentication.kubernetes.io/node-name", ("n1",)),)
    agent = User("system:serviceaccount:a:agent", extra=place)
    mode = BY_NAME["associated-node"]
    assert mode.applies(User("system:node:n1"), agent)
    assert not mode.applies(User("system:node:n2"), agent)
    assert complete(mode, User("system:node:n1")).groups == ("system:nodes", "system:authenticated")


@pytest.mark.parametrize(
    ("name", "modes"),
    [
        ("bob", ["user-info", ""]),
        ("system:node:n1", ["arbitrary-node", ""]),
        ("system:serviceaccount:a:b", ["serviceaccount", ""]),
    ],
)
def test_each_sort_of_user_has_its_mode(name: str, modes: list[str]) -> None:
    assert [mode.name for mode in MODES if mode.applies(User(name), CALLER)] == modes


def test_parts_of_a_user_without_a_name_are_refused() -> None:
    headers = Headers({"impersonate-uid": "1", "impersonate-extra-a": "b"})
    with pytest.raises(StatusError) as caught:
        wanted_user(headers)
    assert caught.value.status["message"] == (
        'requested &user.DefaultInfo{Name:"", UID:"1", Groups:[]string(nil),'
        ' Extra:map[string][]string{"a":[]string{"b"}}} without impersonating a user name'
    )
    assert wanted_user(Headers({"impersonate-user": ""})) is None


def test_groups_are_as_many_as_there_are_headers() -> None:
    headers = Headers.of([("impersonate-user", "bob"), ("impersonate-group", "a, b"), ("impersonate-group", "c")])
    wanted = wanted_user(headers)
    assert wanted is not None
    assert wanted.groups == ("a, b", "c")
