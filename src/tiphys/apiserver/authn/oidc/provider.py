"""An issuer: its discovery document and its keys, asked for over HTTPS, and its tokens, verified by them.

The keys are asked for again when a token names one that is not known. A token that has its groups elsewhere is
completed by them: who has them answers with a token of its own, whose issuer is asked for its keys like the first.
Source:
https://openid.net/specs/openid-connect-discovery-1_0.html and https://openid.net/specs/openid-connect-core-1_0.html
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import orjson

from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.apiserver.aside import Experience, patiently
from tiphys.apiserver.authn.authenticator import Rejected
from tiphys.apiserver.authn.oidc.claims import ClaimMapper
from tiphys.apiserver.authn.oidc.distributed import place_of
from tiphys.apiserver.authn.oidc.settings import IssuerSettings
from tiphys.apiserver.authn.oidc.signatures import BadSignature, SignedToken, VerificationKey, read_keys, read_token
from tiphys.apiserver.call import User
from tiphys.cel.patience import Patience
from tiphys.runtime.clock import Clock
from tiphys.wire.client import SocketTransport
from tiphys.wire.http import BodyTooLarge, Headers, Request
from tiphys.wire.tls.contexts import client_context

log = logging.getLogger(__name__)

RETRY_SECONDS = 10.0
_TIMEOUT = 30.0
_MAX_ANSWER = 1024 * 1024
_WELL_KNOWN = "/.well-known/openid-configuration"
_NEWEST_SECONDS = 1.0
"""The keys are not asked for more often than that: nobody makes the server ask by tokens with invented key names."""
_LEEWAY_NOT_BEFORE = 300.0
_MOST_OTHERS = 100


class ProviderFailed(Exception):
    """The issuer cannot be asked, or says something that cannot be used."""


class Issuer:
    """``problem`` says why its tokens cannot be verified yet; empty if they can."""

    def __init__(self, settings: IssuerSettings, clock: Clock) -> None:
        """Raises ``UnfitExpression`` and ``ssl.SSLError``."""
        self.settings = settings
        self.problem = f"oidc: authenticator for issuer {quote(settings.url)} is not initialized"
        self.gone = False
        """Whether another configuration has come, without it."""
        self._clock = clock
        self._mapper = ClaimMapper(settings)
        self._experience = Experience()
        self._tls = client_context(settings.authority)
        self._keys_url = ""
        self._keys: list[VerificationKey] = []
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()
        self._others: dict[str, Issuer] = {}
        """Issuers of tokens with groups, by URL."""

    async def run(self) -> None:
        """Try until the issuer has said where its keys are, or is asked no more."""
        while self.problem and not self.gone:
            try:
                await self.discover()
            except ProviderFailed as error:
                self.problem = str(error)
                log.error("oidc authenticator: initializing issuer %s: %s", self.settings.url, error)
                await self._clock.sleep(RETRY_SECONDS)

    async def discover(self) -> None:
        """Raises ``ProviderFailed``."""
        settings = self.settings
        url = settings.discovery_url or settings.url.removesuffix("/") + _WELL_KNOWN
        document = await self._get(url)
        if not isinstance(document, dict) or document.get("issuer") != settings.url:
            told = document.get("issuer") if isinstance(document, dict) else document
            raise ProviderFailed(
                f"oidc: issuer did not match the issuer returned by provider, expected {quote(settings.url)} got"
                f" {quote(str(told))}"
            )
        if not isinstance(document.get("jwks_uri"), str) or not document["jwks_uri"]:
            raise ProviderFailed("provider did not return JWKS URL")
        self._keys_url, self.problem = document["jwks_uri"], ""

    # -- tokens

    async def user_of(self, token: SignedToken) -> User:
        """Raises ``Rejected``."""
        if self.problem:
            raise Rejected("oidc: authenticator not initialized")
        await self._believe(token)
        claims = await self._completed(token.claims)
        return await patiently(Patience(), lambda: self._mapper.user_of(claims), self._experience)

    async def _believe(self, token: SignedToken) -> None:
        """Raises ``Rejected``."""
        self._check(token.claims)
        await self._verify(token)

    async def _completed(self, claims: Object) -> Object:
        """The claims with the groups, if these are elsewhere. Raises ``Rejected``."""
        claim = self.settings.groups.claim
        place = place_of(claims, claim) if claim else None
        if place is None:
            return claims
        try:
            token = read_token((await self._fetch(place.url, place.access_token)).decode())
            other = await self._other(str(token.claims.get("iss")))
            await other._believe(token)
        except (ProviderFailed, BadSignature, UnicodeDecodeError, Rejected) as error:
            raise Rejected(
                f"oidc: could not expand distributed claims: while getting distributed claim {quote(claim)}: {error}"
            ) from error
        if claim not in token.claims:
            raise Rejected(
                "oidc: could not expand distributed claims: jwt returned by distributed claim endpoint"
                f" {quote(place.url)} did not contain claim: {claim}"
            )
        return {**claims, claim: token.claims[claim]}

    async def _other(self, url: str) -> Issuer:
        """The issuer of tokens with groups, once it can be asked. Raises ``ProviderFailed``."""
        if url == self.settings.url:
            return self
        other = self._others.get(url)
        if other is None:
            other = Issuer(replace(self.settings, url=url, discovery_url=""), self._clock)
            await other.discover()
            if len(self._others) >= _MOST_OTHERS:
                self._others.clear()
            self._others[url] = other
        return other

    def _check(self, claims: Object) -> None:
        audience = claims.get("aud")
        named = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
        if not any(one in self.settings.audiences for one in named):
            wanted = " ".join(map(quote, sorted(self.settings.audiences)))
            raise Rejected(f"oidc: verify token: oidc: expected audience in [{wanted}] got {named}")
        now = self._clock.now()
        if not _is_number(claims.get("exp")) or now > float(claims["exp"]):
            raise Rejected("oidc: verify token: oidc: token is expired")
        if _is_number(claims.get("nbf")) and now + _LEEWAY_NOT_BEFORE < float(claims["nbf"]):
            raise Rejected("oidc: verify token: oidc: current time is before the nbf (not before) time")

    async def _verify(self, token: SignedToken) -> None:
        if token.algorithm not in self.settings.algorithms:
            raise Rejected(f"oidc: verify token: oidc: id token signed with unsupported algorithm {token.algorithm}")
        if self._is_signed(token):
            return
        before = self._asked_at
        async with self._asking:  # one asks for all that wait
            if self._asked_at == before and self._clock.monotonic() >= before + _NEWEST_SECONDS:
                await self._renew()
        if not self._is_signed(token):
            raise Rejected("oidc: verify token: failed to verify signature: failed to verify id token signature")

    def _is_signed(self, token: SignedToken) -> bool:
        return any(key.has_signed(token) for key in self._keys if not token.key_id or key.id == token.key_id)

    async def _renew(self) -> None:
        self._asked_at = self._clock.monotonic()
        try:
            self._keys = read_keys(await self._get(self._keys_url))
        except (ProviderFailed, ValueError) as error:
            raise Rejected(f"oidc: verify token: failed to verify signature: fetching keys {error}") from None

    # -- over the wire

    async def _get(self, url: str) -> Any:
        """The JSON at a URL. Raises ``ProviderFailed``."""
        try:
            return orjson.loads(await self._fetch(url))
        except orjson.JSONDecodeError as error:
            raise ProviderFailed(f"{url}: {error}") from None

    async def _fetch(self, url: str, access_token: str = "") -> bytes:
        """What is at a URL. Raises ``ProviderFailed``."""
        try:
            parts = urlsplit(url)
            port = parts.port or 443
        except ValueError as error:
            raise ProviderFailed(f"{url}: {error}") from None
        if parts.scheme != "https" or not parts.hostname:
            raise ProviderFailed(f"{url} is not a URL of HTTPS")
        transport = SocketTransport(parts.hostname, port, self._tls, parts.hostname)
        headers = Headers({"accept": "application/json"})
        if access_token:
            headers["authorization"] = f"Bearer {access_token}"
        request = Request("GET", parts.path or "/", parts.query, headers, b"")
        try:
            async with asyncio.timeout(_TIMEOUT):
                response = await transport.send(request)
                text = await response.read(_MAX_ANSWER)
        except TimeoutError:
            raise ProviderFailed(f"{url}: context deadline exceeded") from None
        except (OSError, ValueError, BodyTooLarge) as error:
            raise ProviderFailed(f"{url}: {error}") from None
        finally:
            await transport.close()
        if response.status != 200:
            raise ProviderFailed(f"{url}: the answer is {response.status}")
        return text


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
