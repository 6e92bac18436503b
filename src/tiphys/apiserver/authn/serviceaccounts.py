"""Service account tokens: issued by the API server, bound to objects, and believed while those objects are there.

Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tiphys.api.gotext import quote
from tiphys.api.meta.names import dns1123_label, dns1123_subdomain
from tiphys.api.meta.timestamps import parse_seconds
from tiphys.api.object import Object
from tiphys.apiserver.authn.authenticator import Bearer, Rejected, common
from tiphys.apiserver.authn.certificates import CREDENTIAL_ID
from tiphys.apiserver.call import NO_REMARKS, Remarks, User
from tiphys.apiserver.registry.registries import Registries
from tiphys.runtime.clock import Clock
from tiphys.runtime.vectors import CounterVec

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from tiphys.api.jwt import PublicKey, SigningKey


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


def common_audiences(claims: Object, own: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Those of the wanted audiences that a token is for; one that names none is for the API server, ``own``.
    Raises ``Rejected`` for a token that is for none of them."""
    named = claims.get("aud") or ()
    named = tuple(own) if not named else (named,) if isinstance(named, str) else named
    shared = common(named, wanted)
    if not shared:
        raise Rejected(f"token audiences {in_go(named)} is invalid for the target audiences {in_go(wanted)}")
    return shared


def in_go(texts: Sequence[str]) -> str:
    """Texts as ``%q`` prints them."""
    return f"[{' '.join(quote(text) for text in texts)}]"


class ServiceAccountTokens:
    """Believes tokens whose account, and the objects that they are bound to, still exist."""

    def __init__(self, keys: Callable[[], TokenKeys], registries: Registries, clock: Clock) -> None:
        self._lazy_keys = keys
        self._registries = registries
        self._clock = clock
        self._stale = CounterVec(
            "serviceaccount_stale_tokens", "Cumulative stale projected service account tokens used"
        )
        self._valid = CounterVec(
            "serviceaccount_valid_tokens", "Cumulative valid projected service account tokens used"
        )

    async def bearer_of(self, token: str, audiences: Sequence[str]) -> Bearer | None:
        keys = self._lazy_keys()
        claims = verified(token, keys.keys, keys.issuers)
        if claims is None:
            return None
        self._check_times(claims)
        shared = common_audiences(claims, keys.audiences, audiences)
        user = await self._user(claims)
        return Bearer(replace(user, remarks=self._remarks(claims)), shared)

    def figures(self) -> Iterable[Metric]:
        for counter in (self._stale, self._valid):
            yield from counter.collect()

    def _remarks(self, claims: Object) -> Remarks:
        """Tokens of pods live on for a year after the time at which clients should have read the next one."""
        warn_after = (claims.get("kubernetes.io") or {}).get("warnafter")
        if not warn_after:
            return NO_REMARKS
        late = int(self._clock.now()) - int(warn_after)
        if late <= 0:
            self._valid.inc()
            return NO_REMARKS
        self._stale.inc()
        text = f"subject: {claims.get('sub', '')}, seconds after warning threshold: {late}"
        return Remarks(annotations=(("authentication.k8s.io/stale-token", text),))

    def _check_times(self, claims: Object) -> None:
        now = self._clock.now()
        if now > float(claims.get("exp", 0)) + _LEEWAY:
            raise Rejected("service account token has expired")
        if now + _LEEWAY < float(claims.get("nbf", 0)):
            raise Rejected("service account token is not valid yet")
        if now + _LEEWAY < float(claims.get("iat", 0)):
            raise Rejected("service account token is issued in the future")

    async def _user(self, claims: Object) -> User:
        private = claims.get("kubernetes.io") or {}
        namespace, account = private.get("namespace", ""), private.get("serviceaccount") or {}
        account_object = await self._find("serviceaccounts", namespace, account.get("name", ""))
        if account_object is None:
            raise Rejected(f'serviceaccounts "{account.get("name", "")}" not found')
        if account_object["metadata"]["uid"] != account.get("uid"):
            raise Rejected(
                f"service account UID ({account_object['metadata']['uid']}) does not match claim ({account.get('uid')})"
            )
        if self._is_gone(account_object["metadata"]):
            raise Rejected(f"service account {namespace}/{account['name']} has been deleted")
        extra = await self._check_bindings(namespace, private)
        if id := claims.get("jti"):
            extra[CREDENTIAL_ID] = (f"JTI={id}",)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        return User(username(namespace, account["name"]), groups, account["uid"], tuple(sorted(extra.items())))

    async def _check_bindings(self, namespace: str, private: Object) -> dict[str, tuple[str, ...]]:
        """Raises ``Rejected`` if an object that the token is bound to is gone; gives the claims about them."""
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
        bound = await self._find(plural, namespace, reference.get("name", ""))
        if bound is None:
            raise Rejected(_INVALIDATED)
        meta = bound["metadata"]
        if meta["uid"] != reference.get("uid"):
            kind = plural.removesuffix("s")
            raise Rejected(
                f"{kind} UID ({meta['uid']}) does not match service account {kind} ref claim ({reference.get('uid')})"
            )
        if self._is_gone(meta):
            raise Rejected(_INVALIDATED)

    def _is_gone(self, meta: Object) -> bool:
        """Whether the object was deleted some time ago, though a finalizer may hold it."""
        deleted = meta.get("deletionTimestamp")
        return deleted is not None and parse_seconds(deleted) < self._clock.now() - _LEEWAY

    async def _find(self, plural: str, namespace: str, name: str) -> Object | None:
        return await find_newest(self._registries, plural, namespace, name)


async def find_newest(registries: Registries, plural: str, namespace: str, name: str) -> Object | None:
    """From the cache; what is not there yet may have been made a moment ago, so the store is asked."""
    registry = registries.get("", plural)
    known = await registry.find(namespace, name)
    if known is not None:
        return known
    entry = await registry.store.get(namespace, name)
    return None if entry is None else registry.object(entry)


def verified(token: str, keys: dict[str, PublicKey], issuers: Sequence[str]) -> Object | None:
    """The claims of a token of one of ``issuers``; None for any other text. Raises ``Rejected`` for a signature by none
    of ``keys``."""
    from tiphys.api import jwt

    if token.count(".") != 2:
        return None
    try:
        if jwt.unverified_claims(token).get("iss") not in issuers:
            return None
        return jwt.verify(token, keys)
    except jwt.BadToken as error:
        if str(error) == "invalid signature":
            raise Rejected(str(error)) from None
        return None
