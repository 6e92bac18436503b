"""From the claims of a verified token to its user. Pure.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#using-authentication-configuration
"""

from __future__ import annotations

from typing import Any

from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.apiserver.authn.authenticator import Rejected
from tiphys.apiserver.authn.certificates import CREDENTIAL_ID
from tiphys.apiserver.authn.oidc.settings import IssuerSettings, Rule
from tiphys.apiserver.call import User
from tiphys.cel import accessenvironments as environments
from tiphys.cel.environments import PER_CALL_LIMIT
from tiphys.cel.evaluator import CostExceeded, Program
from tiphys.cel.values import CelError


class ClaimMapper:
    def __init__(self, settings: IssuerSettings) -> None:
        """Raises ``UnfitExpression``."""
        self._settings = settings
        sources = {"username": settings.username, "group": settings.groups, "uid": settings.uid}
        self._programs = {name: _program(source.expression) for name, source in sources.items() if source.expression}
        self._extra = [(key, text, _program(text)) for key, text in settings.extra]
        self._claim_rules = [
            (rule, environments.compile_program(environments.claims(), rule.expression, environments.BOOL))
            for rule in settings.claim_rules
            if rule.expression
        ]
        self._user_rules = [
            (rule, environments.compile_program(environments.user(), rule.expression, environments.BOOL))
            for rule in settings.user_rules
        ]

    def user_of(self, claims: Object) -> User:
        """Raises ``Rejected``."""
        bindings = {"claims": seen_by_expressions(claims)}
        user = User(
            self._username(claims, bindings),
            self._groups(claims, bindings),
            self._uid(claims, bindings),
            self._extras(claims, bindings),
        )
        for rule in self._settings.claim_rules:
            if rule.claim:
                _check_claim(rule, claims)
        _check(self._claim_rules, bindings, "claim validation expression")
        if self._user_rules:
            _check(self._user_rules, {"user": _info(user)}, "user info validation rule")
        return user

    def _username(self, claims: Object, bindings: Object) -> str:
        source = self._settings.username
        if source.expression:
            name = _run(self._programs["username"], bindings, "username claim expression")
            if not isinstance(name, str):
                raise Rejected(
                    "oidc: error evaluating username claim expression: username claim expression must return a string"
                )
            if not name:
                raise Rejected("oidc: empty username via CEL expression is not allowed")
            return name
        name = _text(claims, source.claim, "username claims")
        if source.claim == "email" and "email_verified" in claims:
            if not isinstance(claims["email_verified"], bool):
                raise Rejected("oidc: parse 'email_verified' claim: it is neither true nor false")
            if not claims["email_verified"]:
                raise Rejected("oidc: email not verified")
        return source.prefix + name

    def _groups(self, claims: Object, bindings: Object) -> tuple[str, ...]:
        source = self._settings.groups
        if source.claim:
            if source.claim not in claims:
                return ()
            groups = claims[source.claim]
            names = [groups] if isinstance(groups, str) else groups
            if names is None:
                return ()
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise Rejected(
                    f"oidc: parse groups claim {quote(source.claim)}: it is neither a text nor a list of texts"
                )
            return tuple(source.prefix + name for name in names)
        if not source.expression:
            return ()
        return _texts(_run(self._programs["group"], bindings, "group claim expression"), "group claim expression")

    def _uid(self, claims: Object, bindings: Object) -> str:
        source = self._settings.uid
        if source.claim:
            return _text(claims, source.claim, "uid claim")
        if not source.expression:
            return ""
        uid = _run(self._programs["uid"], bindings, "uid claim expression")
        if not isinstance(uid, str):
            raise Rejected("oidc: error evaluating uid claim expression: uid claim expression must return a string")
        return uid

    def _extras(self, claims: Object, bindings: Object) -> tuple[tuple[str, tuple[str, ...]], ...]:
        extra: dict[str, tuple[str, ...]] = {}
        if isinstance(claims.get("jti"), str) and claims["jti"]:
            extra[CREDENTIAL_ID] = (f"JTI={claims['jti']}",)
        for key, text, program in self._extra:
            values = _texts(
                _run(program, bindings, f"extra claim expression: {text}"), f"extra claim expression: {text}"
            )
            if values:
                extra[key] = values
        return tuple(sorted(extra.items()))


def _program(text: str) -> Program:
    return environments.compile_program(environments.claims(), text, None)


def _run(program: Program, bindings: Object, what: str) -> Any:
    try:
        value, _ = program.run(bindings, PER_CALL_LIMIT)
    except (CelError, CostExceeded) as error:
        raise Rejected(f"oidc: error evaluating {what}: {error}") from None
    return value


def _texts(value: Any, what: str) -> tuple[str, ...]:
    """One text or several; empty ones count for nothing."""
    if value is None:
        return ()
    values = (value,) if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(one, str) for one in values):
        raise Rejected(f"oidc: error evaluating {what}: expression must return a string or a list of strings")
    return tuple(one for one in values if one)


def _text(claims: Object, name: str, what: str) -> str:
    if name not in claims:
        raise Rejected(f"oidc: parse {what} {quote(name)}: claim not present")
    if not isinstance(claims[name], str):
        raise Rejected(f"oidc: parse {what} {quote(name)}: the claim is not a text")
    return str(claims[name])


def _check_claim(rule: Rule, claims: Object) -> None:
    if rule.claim not in claims:
        raise Rejected(f"oidc: required claim {rule.claim} not present in ID token")
    value = claims[rule.claim]
    if not isinstance(value, str):
        raise Rejected(f"oidc: parse claim {rule.claim}: the claim is not a text")
    if value != rule.value:
        raise Rejected(f"oidc: required claim {rule.claim} value does not match. Got = {value}, want = {rule.value}")


def _check(rules: list[tuple[Rule, Program]], bindings: Object, what: str) -> None:
    for rule, program in rules:
        if _run(program, bindings, what) is not True:
            text = f"validation expression '{rule.expression}' failed: {rule.message}"
            raise Rejected(f"oidc: error evaluating {what}: {text}")


def _info(user: User) -> Object:
    extra = {key: list(values) for key, values in user.extra}
    return {"username": user.name, "uid": user.uid, "groups": list(user.groups), "extra": extra}


def seen_by_expressions(value: Any) -> Any:
    """JSON with every number a double, as expressions see it."""
    if isinstance(value, dict):
        return {name: seen_by_expressions(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [seen_by_expressions(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
