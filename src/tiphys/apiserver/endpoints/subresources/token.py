"""``serviceaccounts/token``: a new token for a service account, which may be bound to an object.

Source: https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/
"""

from __future__ import annotations

from tiphys.api import errors, fielderrors
from tiphys.api.gotext import quote
from tiphys.api.meta.timestamps import format_time
from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.admission.attributes import CREATE
from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.authn.serviceaccounts import WARN_AFTER, Binding, TokenKeys, claims_for
from tiphys.apiserver.authn.setup import Authentication
from tiphys.apiserver.call import Call
from tiphys.apiserver.config import Config
from tiphys.apiserver.endpoints.bodies import decode_as
from tiphys.apiserver.endpoints.negotiation import negotiate
from tiphys.apiserver.endpoints.options import write_options
from tiphys.apiserver.endpoints.respond import show
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.writing import attributes_of
from tiphys.apiserver.registry.creating import match_namespace
from tiphys.apiserver.registry.registries import Registries
from tiphys.wire.http import Response

_REQUEST = GroupVersionKind("authentication.k8s.io", "v1", "TokenRequest")
_MIN_SECONDS, _MAX_SECONDS = 600, 1 << 32
_EXTENDED_SECONDS = 365 * 24 * 60 * 60


class RequestToken:
    def __init__(
        self, config: Config, registries: Registries, authentication: Authentication, admission: AdmissionChain
    ) -> None:
        self._config = config
        self._registries = registries
        self._authentication = authentication
        self._admission = admission

    async def __call__(self, call: Call, target: Target) -> Response:
        """Issue a token for a service account; answers 201."""
        form = negotiate(call, has_columns=False)
        options = write_options(call, "CreateOptions")
        request = decode_as(call, _REQUEST, options)
        accounts = self._registries.get("", "serviceaccounts")
        namespace, name = call.info.namespace, call.info.name
        match_namespace(request["metadata"], namespace)
        attributes = attributes_of(call, target, CREATE, options)
        attributes.object = request
        await self._admission.mutate(attributes)  # which sees the request as it was sent: nothing is filled in yet
        request = attributes.new()
        account = accounts.object(await accounts.get(namespace, name))
        self._complete(request, account)
        now = accounts.clock.now()
        request["metadata"]["creationTimestamp"] = format_time(now)
        _check(request)
        attributes.object = request
        await self._admission.validate(attributes)
        binding = await self._binding(request["spec"].get("boundObjectRef"), namespace, name)
        request["status"] = self._issue(request, account, binding, now, call)
        # Upstream shows the field, empty, if none exists.
        request["spec"]["boundObjectRef"] = request["spec"].get("boundObjectRef")
        return show(call, request, form, 201)

    def _complete(self, request: Object, account: Object) -> None:
        meta, known = request["metadata"], account["metadata"]
        for field in ("name", "namespace", "uid"):
            if meta.get(field) and meta[field] != known[field]:
                raise _mismatch(field, meta[field], known)
            meta[field] = known[field]
        if not request["spec"].get("audiences"):
            request["spec"]["audiences"] = list(self._authentication.audiences)

    async def _binding(self, reference: Object | None, namespace: str, account: str) -> Binding:
        """The object to which the token is bound. Raises 400, 404 and 409."""
        if reference is None:
            return Binding()
        group, _, version = reference.get("apiVersion", "").rpartition("/")
        kind, name = reference.get("kind", ""), reference.get("name", "")
        plural = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}.get(kind)
        if plural is None or group:
            raise errors.bad_request(f"cannot bind token to object of type {group}/{version}, Kind={kind}")
        registry = self._registries.get("", plural)
        obj = registry.object(await registry.get("" if kind == "Node" else namespace, name))
        meta = obj["metadata"]
        if kind == "Pod" and obj["spec"].get("serviceAccountName") != account:
            raise errors.bad_request(
                f"cannot bind token for serviceaccount {quote(account)}"
                " to pod running with different serviceaccount name."
            )
        if reference.get("uid") and reference["uid"] != meta["uid"]:
            reason = (
                f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record."
                " The object might have been deleted and then recreated"
            )
            raise errors.conflict("", kind, name, reason)
        own = {"name": meta["name"], "uid": meta["uid"]}
        if kind == "Pod":
            return Binding(pod=own, node=await self._node_of(obj))
        return Binding(node=own) if kind == "Node" else Binding(secret=own)

    async def _node_of(self, pod: Object) -> Object:
        name = pod["spec"].get("nodeName")
        if not name:
            return {}
        node = await self._registries.get("", "nodes").find("", name)
        return {"name": name} if node is None else {"name": name, "uid": node["metadata"]["uid"]}

    def _issue(self, request: Object, account: Object, binding: Binding, now: float, call: Call) -> Object:
        keys, spec = self._authentication.keys(), request["spec"]
        limit = self._config.service_account_max_expiration
        if limit and spec["expirationSeconds"] > limit:
            call.warn(f"requested expiration of {spec['expirationSeconds']} seconds shortened to {limit} seconds")
            spec["expirationSeconds"] = limit
        seconds = wanted = spec["expirationSeconds"]
        if self._is_extended(spec, binding, keys):
            seconds = _EXTENDED_SECONDS
        id = self._authentication.ids.uid()
        claims = claims_for(keys, account, binding, spec["audiences"], now, seconds, id)
        if seconds != wanted:
            claims["kubernetes.io"]["warnafter"] = int(now) + wanted
        return {"token": keys.signing.sign(claims), "expirationTimestamp": format_time(now + wanted)}

    def _is_extended(self, spec: Object, binding: Binding, keys: TokenKeys) -> bool:
        return (
            self._config.service_account_extend_expiration
            and bool(binding.pod)
            and spec["expirationSeconds"] == WARN_AFTER
            and set(spec["audiences"]) <= set(keys.audiences)
        )


def _mismatch(field: str, value: str, known: Object) -> errors.StatusError:
    if field == "uid":
        reason = (
            f"the UID in the token request ({value}) does not match the UID of the service account ({known['uid']})"
        )
        return errors.conflict(_REQUEST.group, _REQUEST.kind, known["name"], reason)
    error = fielderrors.invalid(f"metadata.{field}", value, f"must match the service account {field} if specified")
    return errors.invalid(_REQUEST.group, _REQUEST.kind, known["name"], [error])


def _check(request: Object) -> None:
    seconds = request["spec"].get("expirationSeconds", 3600)
    problems = []
    if seconds < _MIN_SECONDS:
        text = "may not specify a duration less than 10 minutes"
        problems.append(fielderrors.invalid("spec.expirationSeconds", seconds, text))
    if seconds > _MAX_SECONDS:
        text = "may not specify a duration larger than 2^32 seconds"
        problems.append(fielderrors.invalid("spec.expirationSeconds", seconds, text))
    if problems:
        raise errors.invalid(_REQUEST.group, _REQUEST.kind, "", problems)
