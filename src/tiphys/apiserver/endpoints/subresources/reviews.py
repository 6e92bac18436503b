"""Questions that are asked by creating an object: who is this, may they, what may they.

The object is answered with its ``status`` filled in, and never stored. Source:
https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access
"""

from __future__ import annotations

from tiphys.api import errors
from tiphys.api.credentials import bearer_token
from tiphys.api.meta.selectors import FieldTerm, Requirement, SelectorError, parse_field_selector, parse_label_selector
from tiphys.api.meta.timestamps import format_time
from tiphys.api.object import Object
from tiphys.apiserver.admission.attributes import CREATE
from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.authn.authenticator import Rejected
from tiphys.apiserver.authn.setup import Authentication
from tiphys.apiserver.authz.authorizer import Access, Verdict
from tiphys.apiserver.authz.setup import Authorization
from tiphys.apiserver.call import Call, User
from tiphys.apiserver.endpoints.negotiation import negotiate
from tiphys.apiserver.endpoints.options import write_options
from tiphys.apiserver.endpoints.respond import show
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.versions import Versions
from tiphys.apiserver.endpoints.writing import attributes_of, manage
from tiphys.apiserver.registry.creating import match_namespace
from tiphys.validation import validate_create
from tiphys.wire.http import Response

AUTHENTICATION, AUTHORIZATION = "authentication.k8s.io", "authorization.k8s.io"


class Review:
    """The frame of all reviews: decode, admit, answer, show. ``fill`` adds the status."""

    managed = True

    def __init__(self, admission: AdmissionChain) -> None:
        self._admission = admission

    async def __call__(self, call: Call, target: Target) -> Response:
        form = negotiate(call, has_columns=False)
        options = write_options(call, "CreateOptions")
        review = target.decode(call, options)
        if self.managed:
            now = format_time(target.registry.clock.now())
            review = manage(target, None, review, options, now, Versions(target))
        attributes = attributes_of(call, target, CREATE, options)
        attributes.name, attributes.object = review["metadata"].get("name", ""), review
        await self._admission.mutate(attributes)
        review = attributes.new()
        await self._admission.validate(attributes)
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

    def __init__(self, admission: AdmissionChain, authentication: Authentication) -> None:
        super().__init__(admission)
        self._authentication = authentication

    async def fill(self, call: Call, target: Target, review: Object) -> None:
        """Fill a TokenReview's status. Raises 400 without a token."""
        spec = review.get("spec") or {}
        token = spec.get("token", "")
        if not token:
            raise errors.bad_request("token is required for TokenReview in authentication")
        audiences = tuple(spec.get("audiences") or ()) or self._authentication.audiences
        token = bearer_token(f"Bearer {token}")
        if not token:
            review["status"] = {"user": {}}
            return
        try:
            bearer = await self._authentication.bearers.bearer_of(token, audiences)
        except Rejected as error:
            review["status"] = {"user": {}, "error": f"[invalid bearer token, {error}]"}
            return
        if bearer is None:
            review["status"] = {"user": {}, "error": "invalid bearer token"}
            return
        review["status"] = {
            "authenticated": True,
            "user": bearer.user.as_user_info(),
            "audiences": list(bearer.audiences),
        }


class ReviewAccess(Review):
    """The SubjectAccessReview family: may a user, or may I, do this?"""

    def __init__(self, admission: AdmissionChain, authorization: Authorization, *, self_review: bool = False) -> None:
        super().__init__(admission)
        self._authorizer = authorization.authorizer
        self._self_review = self_review

    async def fill(self, call: Call, target: Target, review: Object) -> None:
        """Fill an access review's status with the decision. Raises 422 for a contradictory question."""
        if target.resource.namespaced:
            match_namespace(review["metadata"], call.info.namespace)
        if invalid := validate_create(review, target.gvk):
            raise errors.invalid(AUTHORIZATION, "", "", invalid)
        spec = review.get("spec") or {}
        user = call.user if self._self_review else _user(spec)
        question, problems = access(user, spec)
        decision = await self._authorizer.authorize(question)
        status: Object = {"allowed": decision.allowed}
        if decision.verdict is Verdict.DENY:
            status["denied"] = True
        if decision.reason:
            status["reason"] = decision.reason
        if decision.error:
            problems = [*problems, decision.error]
        if problems:
            status["evaluationError"] = "; ".join(problems)
        review["status"] = status


def _user(spec: Object) -> User:
    extra = tuple((key, tuple(values)) for key, values in sorted((spec.get("extra") or {}).items()))
    return User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)


def access(user: User, spec: Object) -> tuple[Access, list[str]]:
    """The question in a review's spec, and what of it could not be read."""
    resource = spec.get("resourceAttributes")
    if resource is None:
        path = spec["nonResourceAttributes"]
        return Access(user, path.get("verb", ""), path=path.get("path", ""), is_resource=False), []
    fields, fields_wrong = _fields(resource.get("fieldSelector") or {})
    labels, labels_wrong = _labels(resource.get("labelSelector") or {})
    question = Access(
        user=user,
        verb=resource.get("verb", ""),
        group=resource.get("group", ""),
        version=resource.get("version", ""),
        resource=resource.get("resource", ""),
        subresource=resource.get("subresource", ""),
        namespace=resource.get("namespace", ""),
        name=resource.get("name", ""),
        field_selector=fields,
        label_selector=labels,
    )
    problems = [
        f"spec.resourceAttributes.{key} {'partially ' if some else ''}ignored due to parse error"
        for key, some, wrong in (("fieldSelector", fields, fields_wrong), ("labelSelector", labels, labels_wrong))
        if wrong
    ]
    return question, problems


def _fields(selector: Object) -> tuple[str, bool]:
    """What is understood of a field selector, and whether some is not."""
    raw, requirements = selector.get("rawSelector", ""), selector.get("requirements") or []
    if not requirements:
        try:
            return str(parse_field_selector(raw)), False
        except SelectorError:
            return "", True
    terms = [
        FieldTerm(wanted.get("key", ""), wanted["values"][0], wanted["operator"] == "In")
        for wanted in requirements
        if wanted.get("operator") in ("In", "NotIn") and len(wanted.get("values") or ()) == 1
    ]
    return ",".join(map(str, terms)), len(terms) < len(requirements)


_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}


def _labels(selector: Object) -> tuple[str, bool]:
    """What is understood of a label selector, and whether some is not."""
    raw, requirements = selector.get("rawSelector", ""), selector.get("requirements") or []
    if not requirements:
        try:
            return str(parse_label_selector(raw)), False
        except SelectorError:
            return "", True
    # Validation has seen to everything but the operator.
    known = [
        Requirement(wanted.get("key", ""), _OPERATORS[wanted["operator"]], tuple(wanted.get("values") or ()))
        for wanted in requirements
        if wanted.get("operator") in _OPERATORS
    ]
    return ",".join(map(str, known)), len(known) < len(requirements)


class ReviewRules(Review):
    """SelfSubjectRulesReview: what may I do in a namespace? The answer does not repeat the question."""

    managed = False

    def __init__(self, admission: AdmissionChain, authorization: Authorization) -> None:
        super().__init__(admission)
        self._authorization = authorization

    async def fill(self, call: Call, target: Target, review: Object) -> None:
        """Fill a SelfSubjectRulesReview's status with what the authorizers say. Raises 400 without namespace."""
        namespace = (review.get("spec") or {}).get("namespace", "")
        if not namespace:
            raise errors.bad_request("no namespace on request")
        rules, error, incomplete = await self._authorization.rules_of(call.user, namespace)
        review["metadata"], review["spec"] = {}, {}
        review["status"] = {
            "resourceRules": [_resource_rule(rule) for rule in rules if rule.get("resources")],
            "nonResourceRules": [
                {"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]}
                for rule in rules
                if rule.get("nonResourceURLs")
            ],
            "incomplete": incomplete,
        }
        if error:
            review["status"]["evaluationError"] = error


def _resource_rule(rule: Object) -> Object:
    return {key: rule[key] for key in ("verbs", "apiGroups", "resources", "resourceNames") if rule.get(key)}
