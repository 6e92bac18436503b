"""Questions that are asked by creating an object: who is this, may they, what may they.

The object is answered with its ``status`` filled in, and never stored. Source:
https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access
"""

from __future__ import annotations

from typing import Any

from tiphys.api import errors, fielderrors
from tiphys.api.meta.timestamps import format_time
from tiphys.apiserver.authn.authenticator import Rejected, authenticated
from tiphys.apiserver.authn.setup import Authentication
from tiphys.apiserver.authz.authorizer import Access, Verdict
from tiphys.apiserver.authz.node import node_of
from tiphys.apiserver.authz.setup import Authorization
from tiphys.apiserver.call import Call, User
from tiphys.apiserver.endpoints.negotiation import negotiate
from tiphys.apiserver.endpoints.options import write_options
from tiphys.apiserver.endpoints.respond import show
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.writing import manage
from tiphys.wire.http import Response

Object = dict[str, Any]

AUTHENTICATION, AUTHORIZATION = "authentication.k8s.io", "authorization.k8s.io"


class Review:
    """The frame of all reviews: decode, answer, show. ``fill`` adds the status."""

    managed = True

    async def __call__(self, call: Call, target: Target) -> Response:
        form = negotiate(call, has_columns=False)
        options = write_options(call, "CreateOptions")
        review = target.decode(call, options)
        if self.managed:
            now = format_time(target.registry.clock.now())
            review = manage(target, None, review, options, now)
        await self.fill(call, target, review)
        return show(call, review, form, 201)

    async def fill(self, call: Call, target: Target, review: Object) -> None:
        raise NotImplementedError


class ReviewSelf(Review):
    """SelfSubjectReview: who am I?"""

    managed = False

    async def fill(self, call: Call, target: Target, review: Object) -> None:
        now = target.registry.clock.now()
        review["metadata"]["creationTimestamp"] = format_time(now)
        review["status"] = {"userInfo": call.user.as_user_info()}


class ReviewToken(Review):
    """TokenReview: whose token is this?"""

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication

    async def fill(self, call: Call, target: Target, review: Object) -> None:
        spec = review.get("spec") or {}
        token = spec.get("token", "")
        if not token:
            raise errors.bad_request("token is required for TokenReview in authentication")
        audiences = tuple(spec.get("audiences") or ())
        try:
            user = await self._authentication.bearers.user_of(token, audiences)
        except Rejected as error:
            review["status"] = {"user": {}, "error": f"[invalid bearer token, {error}]"}
            return
        if user is None:
            review["status"] = {"user": {}, "error": "invalid bearer token"}
            return
        review["status"] = {
            "authenticated": True,
            "user": authenticated(user).as_user_info(),
            "audiences": list(audiences or self._authentication.audiences),
        }


class ReviewAccess(Review):
    """The SubjectAccessReview family: may a user, or may I, do this?"""

    def __init__(self, authorization: Authorization, self_review: bool = False) -> None:
        self._authorizer = authorization.authorizer
        self._self_review = self_review

    async def fill(self, call: Call, target: Target, review: Object) -> None:
        spec = review.get("spec") or {}
        _check_spec(spec, target, review, call, self._self_review)
        user = call.user if self._self_review else _user(spec)
        decision = await self._authorizer.authorize(access(user, spec))
        status: Object = {"allowed": decision.allowed}
        if decision.verdict is Verdict.DENY:
            status["denied"] = True
        if decision.reason:
            status["reason"] = decision.reason
        review["status"] = status


def _check_spec(spec: Object, target: Target, review: Object, call: Call, self_review: bool) -> None:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    found = []
    if resource is not None and path is not None:
        text = "cannot be specified in combination with resourceAttributes"
        found.append(fielderrors.invalid("spec.nonResourceAttributes", path, text))
    if resource is None and path is None:
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        found.append(fielderrors.invalid("spec.resourceAttributes", None, text))
    if not self_review and not spec.get("user") and not spec.get("groups"):
        found.append(fielderrors.invalid("spec.user", "", "at least one of user or group must be specified"))
    if target.resource.namespaced:
        found += _check_namespace(resource, path, call.info.namespace)
    if found:
        raise errors.invalid(AUTHORIZATION, "", "", found)


def _check_namespace(resource: Object | None, path: Object | None, namespace: str) -> list[fielderrors.FieldError]:
    found = []
    if (resource or {}).get("namespace", "") != namespace:
        text = "must match metadata.namespace"
        value = (resource or {}).get("namespace", "")
        found.append(fielderrors.invalid("spec.resourceAttributes.namespace", value, text))
    if path is not None:
        text = "disallowed on this kind of request"
        found.append(fielderrors.invalid("spec.nonResourceAttributes", path, text))
    return found


def _user(spec: Object) -> User:
    extra = tuple((key, tuple(values)) for key, values in sorted((spec.get("extra") or {}).items()))
    return User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)


def access(user: User, spec: Object) -> Access:
    """The question in a review's spec."""
    resource = spec.get("resourceAttributes")
    if resource is None:
        path = spec["nonResourceAttributes"]
        return Access(user, path.get("verb", ""), path=path.get("path", ""))
    return Access(
        user=user,
        verb=resource.get("verb", ""),
        group=resource.get("group", ""),
        version=resource.get("version", ""),
        resource=resource.get("resource", ""),
        subresource=resource.get("subresource", ""),
        namespace=resource.get("namespace", ""),
        name=resource.get("name", ""),
        field_selector=(resource.get("fieldSelector") or {}).get("rawSelector", ""),
    )


class ReviewRules(Review):
    """SelfSubjectRulesReview: what may I do in a namespace?"""

    def __init__(self, authorization: Authorization) -> None:
        self._rbac = authorization.rbac

    async def fill(self, call: Call, target: Target, review: Object) -> None:
        namespace = (review.get("spec") or {}).get("namespace", "")
        if not namespace:
            raise errors.bad_request("no namespace on request")
        rules = await self._rbac.rules_of(call.user, namespace)
        node = node_of(call.user) is not None
        review["status"] = {
            "resourceRules": [_resource_rule(rule) for rule in rules if rule.get("resources")],
            "nonResourceRules": [
                {"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]}
                for rule in rules
                if rule.get("nonResourceURLs")
            ],
            "incomplete": node,
        }
        if node:
            review["status"]["evaluationError"] = "node authorizer does not support user rule resolution"


def _resource_rule(rule: Object) -> Object:
    return {key: rule[key] for key in ("verbs", "apiGroups", "resources", "resourceNames") if rule.get(key)}
