"""The Webhook authorizer: a server of the administrator's is asked by a SubjectAccessReview, and its answer kept.

Source: https://kubernetes.io/docs/reference/access-authn-authz/webhook/
"""

from __future__ import annotations

import logging

from tiphys.api.meta.selectors import (
    DOES_NOT_EXIST,
    DOUBLE_EQUALS,
    EQUALS,
    EXISTS,
    IN,
    NOT_EQUALS,
    NOT_IN,
    SelectorError,
    parse_field_selector,
    parse_label_selector,
)
from tiphys.api.object import Object
from tiphys.apiserver.aside import Experience, patiently
from tiphys.apiserver.authz.authorizer import NO_OPINION, Access, Decision, UserRules, Verdict
from tiphys.apiserver.authz.conditions import ConditionFailed, MatchConditions, seen_by_conditions
from tiphys.apiserver.authz.figures import AuthorizationFigures
from tiphys.apiserver.call import User
from tiphys.apiserver.config import WebhookSettings
from tiphys.apiserver.webhooks.reviews import ReviewFailed, ReviewServer
from tiphys.cel.patience import Patience
from tiphys.runtime.clock import Clock
from tiphys.runtime.expiring import Expiring

log = logging.getLogger(__name__)

_KEPT = 8192
_MAX_KEPT_SIZE = 10_000
_STATUS = {"allowed": bool, "denied": bool, "reason": str}
_LABEL_OPERATORS = {
    IN: "In",
    EQUALS: "In",
    DOUBLE_EQUALS: "In",
    NOT_IN: "NotIn",
    NOT_EQUALS: "NotIn",
    EXISTS: "Exists",
    DOES_NOT_EXIST: "DoesNotExist",
}


class WebhookAuthorizer:
    def __init__(self, name: str, settings: WebhookSettings, clock: Clock, figures: AuthorizationFigures) -> None:
        """Raises ``KubeconfigError`` and ``UnfitExpression``."""
        self._name = name
        self._settings = settings
        self._clock = clock
        self._figures = figures
        self._conditions = MatchConditions(settings.conditions) if settings.conditions else None
        self._experience = Experience()
        self._server = ReviewServer(settings.kubeconfig, "kube-apiserver", clock, timeout=settings.timeout)
        self._known: Expiring[Access, Object] = Expiring(_KEPT)

    async def authorize(self, access: Access) -> Decision:
        spec = spec_of(access)
        try:
            if not await self._is_asked(spec):
                return NO_OPINION
            status = await self._status(access, spec)
        except (ConditionFailed, ReviewFailed) as error:
            log.error("authorization webhook %s: %s", self._name, error)
            verdict = Verdict.DENY if self._settings.denies else Verdict.NO_OPINION
            return Decision(verdict, "", str(error))
        return _decision(status)

    async def _is_asked(self, spec: Object) -> bool:
        """Raises ``ConditionFailed``."""
        conditions = self._conditions
        if conditions is None:
            return True
        seen, started = seen_by_conditions(spec), self._clock.monotonic()
        try:
            holds = await patiently(Patience(), lambda: conditions.hold(seen), self._experience)
        except ConditionFailed:
            self._figures.conditions_failed(self._name)
            raise
        finally:
            self._figures.conditions_evaluated(self._name, self._clock.monotonic() - started)
        if not holds:
            self._figures.excluded(self._name)
        return holds

    async def rules_of(self, user: User, namespace: str) -> UserRules:
        return UserRules([], "webhook authorizer does not support user rule resolution", incomplete=True)

    async def _status(self, access: Access, spec: Object) -> Object:
        """Raises ``ReviewFailed``."""
        known = self._known.get(access, self._clock.monotonic())
        if known is not None:
            return known[0]
        review = {"kind": "SubjectAccessReview", "apiVersion": f"authorization.k8s.io/{self._settings.version}"}
        started = self._clock.monotonic()
        try:
            answer = await self._server.ask({**review, "metadata": {}, "spec": _form(spec, self._settings.version)})
        except ReviewFailed as error:
            result = "timeout" if error.timed_out else "error"
            self._figures.asked(self._name, result, self._clock.monotonic() - started)
            if not self._settings.denies:
                self._figures.failed_open(self._name, result)
            raise
        self._figures.asked(self._name, "success", self._clock.monotonic() - started)
        status: Object = answer.get("status") or {}
        if wrong := [name for name, kind in _STATUS.items() if not isinstance(status.get(name, kind()), kind)]:
            raise ReviewFailed(f"the answer is not a review: status.{wrong[0]} is not {_STATUS[wrong[0]].__name__}")
        seconds = self._settings.authorized if status.get("allowed") else self._settings.unauthorized
        if seconds > 0 and access.size < _MAX_KEPT_SIZE:
            self._known.put(access, status, self._clock.monotonic() + seconds)
        return status

    @property
    def longest(self) -> float:
        """Seconds that an answer may take, with all tries."""
        return self._server.longest

    async def close(self) -> None:
        await self._server.close()


def _decision(status: Object) -> Decision:
    reason = str(status.get("reason") or "")
    if status.get("denied"):
        both = "webhook subject access review returned both allow and deny response" if status.get("allowed") else ""
        return Decision(Verdict.DENY, reason, both)
    return Decision(Verdict.ALLOW if status.get("allowed") else Verdict.NO_OPINION, reason)


def _form(spec: Object, version: str) -> Object:
    """The older version calls the groups ``group``."""
    if version == "v1beta1" and "groups" in spec:
        return {"group" if name == "groups" else name: value for name, value in spec.items()}
    return spec


def spec_of(access: Access) -> Object:
    """The spec of a SubjectAccessReview, without what is empty."""
    user = access.user
    spec: Object = {"user": user.name, "groups": list(user.groups), "uid": user.uid}
    spec["extra"] = {key: list(values) for key, values in user.extra}
    if access.is_resource:
        names = ("namespace", "verb", "group", "version", "resource", "subresource", "name")
        attributes: Object = {name: value for name in names if (value := getattr(access, name))}
        if fields := _field_requirements(access.field_selector):
            attributes["fieldSelector"] = {"requirements": fields}
        if labels := _label_requirements(access.label_selector):
            attributes["labelSelector"] = {"requirements": labels}
        spec["resourceAttributes"] = attributes
    else:
        about = {"path": access.path, "verb": access.verb}
        spec["nonResourceAttributes"] = {name: value for name, value in about.items() if value}
    return {name: value for name, value in spec.items() if value or name.endswith("Attributes")}


def _field_requirements(text: str) -> list[Object]:
    """Without a selector that cannot be read: what it would leave out is then asked about, too."""
    try:
        terms = parse_field_selector(text).terms if text else ()
    except SelectorError:
        return []
    return [{"key": t.field, "operator": "In" if t.equal else "NotIn", "values": [t.value]} for t in terms]


def _label_requirements(text: str) -> list[Object]:
    try:
        requirements = parse_label_selector(text).requirements if text else ()
    except SelectorError:
        return []
    return [
        {
            "key": one.key,
            "operator": _LABEL_OPERATORS[one.operator],
            **({"values": list(one.values)} if one.values else {}),
        }
        for one in requirements
        if one.operator in _LABEL_OPERATORS
    ]
