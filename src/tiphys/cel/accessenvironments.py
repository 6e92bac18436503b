"""The environments of authentication and authorization: what the expressions in their configuration files see.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#using-authentication-configuration and
https://kubernetes.io/docs/reference/access-authn-authz/authorization/#using-configuration-file-for-authorization
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from tiphys.cel import types, uses
from tiphys.cel.environment import Environment
from tiphys.cel.environments import base
from tiphys.cel.evaluator import Program
from tiphys.cel.schema import decltypes
from tiphys.cel.schema.decltypes import DeclType, list_type, map_type, object_type
from tiphys.cel.syntax import Call, Ident, Literal, Node, Select
from tiphys.cel.types import Type

_STRING = decltypes.STRING
_STRINGS = list_type(_STRING)
_EXTRA = map_type(_STRING, _STRINGS)


def _strings(*names: str) -> dict[str, DeclType]:
    return dict.fromkeys(names, _STRING)


@cache
def review() -> Environment:
    """For the match conditions of authorization webhooks: ``request`` is the spec of a SubjectAccessReview."""
    requirement = object_type("kubernetes.SelectorRequirement", {**_strings("key", "operator"), "values": _STRINGS})
    selector = {"rawSelector": _STRING, "requirements": list_type(requirement)}
    resource = object_type(
        "kubernetes.ResourceAttributes",
        {
            **_strings("namespace", "verb", "group", "version", "resource", "subresource", "name"),
            "fieldSelector": object_type("kubernetes.FieldSelectorAttributes", selector),
            "labelSelector": object_type("kubernetes.LabelSelectorAttributes", selector),
        },
    )
    spec = object_type(
        "kubernetes.SubjectAccessReviewSpec",
        {
            "resourceAttributes": resource,
            "nonResourceAttributes": object_type("kubernetes.NonResourceAttributes", _strings("path", "verb")),
            **_strings("user", "uid"),
            "groups": _STRINGS,
            "extra": _EXTRA,
        },
    )
    return base().extend({"request": spec.type}, (spec,))


@cache
def claims() -> Environment:
    """For the claims of a token."""
    return base().extend({"claims": types.map_of(types.STRING, types.DYN)})


@cache
def user() -> Environment:
    """For the user that a token's claims make."""
    info = object_type("kubernetes.UserInfo", {**_strings("username", "uid"), "groups": _STRINGS, "extra": _EXTRA})
    return base().extend({"user": info.type}, (info,))


BOOL = (types.BOOL,)


def compile_program(environment: Environment, text: str, results: Sequence[Type] | None) -> Program:
    """``results`` are the types that it may give; None for any. Raises ``UnfitExpression``."""
    return Program(uses.compile_in(environment, text, results))


def selects_claim(node: Node, name: str) -> bool:
    """Whether an expression looks at ``claims.NAME`` or ``claims.?NAME``."""
    match node:
        case Select(operand=Ident(name="claims"), field=field) if field == name:
            return True
        case Call(function="_?._", args=[Ident(name="claims"), Literal(value=value)]) if value == name:
            return True
    return any(selects_claim(child, name) for child in node.children())
