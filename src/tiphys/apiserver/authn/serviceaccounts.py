"""Service account tokens: issued by the API server, bound to objects, and believed while those objects are there.

Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tiphys.api.meta.names import dns1123_label, dns1123_subdomain
from tiphys.api.meta.timestamps import parse_seconds
from tiphys.apiserver.authn.authenticator import Rejected
from tiphys.apiserver.authn.certificates import CREDENTIAL_ID
from tiphys.apiserver.call import User
from tiphys.apiserver.registry.registries import Registries
from tiphys.runtime.clock import Clock

if TYPE_CHECKING:
    from tiphys.api.jwt import PublicKey, SigningKey

Object = dict[str, Any]

PREFIX = "system:serviceaccount:"
WARN_AFTER = 60 * 60 + 7
"""The seconds that a pod's token volume asks for; the token lives longer, for clients that do not reload it."""
_LEEWAY = 60.0
_POD_NAME, _POD_UID = "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"
NODE_NAME, _NODE_UID = "authentication.kubernetes.io/node-name", "authentication.kubernetes.io/node-uid"
_INVALIDATED = "service account token has been invalidated"


def username(namespace: str, name: str) -> str:
    return f"{PREFIX}{namespace}:{name}"


def split_name(user: str) -> tuple[str, str] | None:
    """Namespace and name of the account whose user this is; None for other users."""
    namespace, colon, name = user.removeprefix(PREFIX).partition(":")
    if not user.startswith(PREFIX) or not colon or dns1123_label(namespace) or dns1123_subdomain(name):
        return None
    return namespace, name


@dataclass(slots=True)
class TokenKeys:
    """``signing`` makes tokens, for the first issuer and audience; all of ``keys`` (by id) are believed."""

    signing: SigningKey
    keys: dict[str, PublicKey]
    issuers: tuple[str, ...]
    audiences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Binding:
    """What a token is bound to: references ``{"name": …, "uid": …}``."""

    pod: Object = field(default_factory=dict)
    node: Object = field(default_factory=dict)
    secret: Object = field(default_factory=dict)


def claims_for(
    keys: TokenKeys, account: Object, binding: Binding, audiences: Sequence[str], now: float, seconds: int, id: str
) -> Object:
    """The claims of a new token; ``seconds`` is how long it lasts."""
    meta = account["metadata"]
    private: Object = {
        "namespace": meta["namespace"],
        "serviceaccount": {"name": meta["name"], "uid": meta["uid"]},
    }
    for kind in ("node", "pod", "secret"):
        if reference := getattr(binding, kind):
            private[kind] = reference
    return {
        "aud": list(audiences),
        "exp": int(now) + seconds,
        "iat": int(now),
        "iss": keys.issuers[0],
        "jti": id,
        "kubernetes.io": private,
        "nbf": int(now),
        "sub": username(meta["namespace"], meta["name"]),
    }


class ServiceAccountTokens:
    """Believes tokens whose account, and the objects that they are bound to, still exist."""

    def __init__(self, keys: Callable[[], TokenKeys], registries: Registries, clock: Clock) -> None:
        self._lazy_keys = keys
        self._registries = registries
        self._clock = clock

    async def user_of(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        from tiphys.api import jwt

        if token.count(".") != 2:
            return None
        keys = self._lazy_keys()
        try:
            if jwt.unverified_claims(token).get("iss") not in keys.issuers:
                return None
            claims = jwt.verify(token, keys.keys)
        except jwt.BadToken as error:
            if str(error) == "invalid signature":
                raise Rejected(str(error)) from None
            return None
        self._check_times(claims)
        self._check_audience(claims, audiences or keys.audiences)
        return await self._user(claims)

    def _check_times(self, claims: Object) -> None:
        now = self._clock.now()
        if now > float(claims.get("exp", 0)) + _LEEWAY:
            raise Rejected("service account token has expired")
        if now + _LEEWAY < float(claims.get("nbf", 0)):
            raise Rejected("service account token is not valid yet")

    def _check_audience(self, claims: Object, wanted: Sequence[str]) -> None:
        found = claims.get("aud") or []
        found = [found] if isinstance(found, str) else found
        if not set(found) & set(wanted):
            raise Rejected(f'token audiences ["{" ".join(found)}"] is invalid for the target audiences {list(wanted)}')

    async def _user(self, claims: Object) -> User:
        private = claims.get("kubernetes.io") or {}
        namespace, account = private.get("namespace", ""), private.get("serviceaccount") or {}
        found = await self._find("serviceaccounts", namespace, account.get("name", ""))
        if found is None:
            raise Rejected(f'serviceaccounts "{account.get("name", "")}" not found')
        if found["metadata"]["uid"] != account.get("uid"):
            raise Rejected(
                f"service account UID ({found['metadata']['uid']}) does not match claim ({account.get('uid')})"
            )
        extra = await self._check_bindings(namespace, private)
        if id := claims.get("jti"):
            extra[CREDENTIAL_ID] = (f"JTI={id}",)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        return User(username(namespace, account["name"]), groups, account["uid"], tuple(sorted(extra.items())))

    async def _check_bindings(self, namespace: str, private: Object) -> dict[str, tuple[str, ...]]:
        """Raises ``Rejected`` where an object that the token is bound to is gone; gives the claims about them."""
        extra: dict[str, tuple[str, ...]] = {}
        pod, node, secret = (private.get(kind) or {} for kind in ("pod", "node", "secret"))
        if secret:
            await self._check_bound("secrets", namespace, secret)
        if pod:
            await self._check_bound("pods", namespace, pod)
            extra[_POD_NAME], extra[_POD_UID] = (pod["name"],), (pod["uid"],)
        if node:
            if not pod:
                await self._check_bound("nodes", "", node)
            extra[NODE_NAME] = (node["name"],)
            if node.get("uid"):
                extra[_NODE_UID] = (node["uid"],)
        return extra

    async def _check_bound(self, plural: str, namespace: str, reference: Object) -> None:
        found = await self._find(plural, namespace, reference.get("name", ""))
        if found is None:
            raise Rejected(_INVALIDATED)
        meta = found["metadata"]
        if meta["uid"] != reference.get("uid"):
            kind = plural.removesuffix("s")
            raise Rejected(
                f"{kind} UID ({meta['uid']}) does not match service account {kind} ref claim ({reference.get('uid')})"
            )
        deleted = meta.get("deletionTimestamp")
        if deleted and parse_seconds(deleted) < self._clock.now() - _LEEWAY:
            raise Rejected(_INVALIDATED)

    async def _find(self, plural: str, namespace: str, name: str) -> Object | None:
        """From the cache; what is not there yet may have been made a moment ago, so the store is asked."""
        registry = self._registries.get("", plural)
        found = await registry.find(namespace, name)
        if found is None:
            entry = await registry.store.get(namespace, name)
            found = None if entry is None else registry.object(entry)
        return found
