"""``OidcTokens``: the bearers of tokens of several issuers, which may be replaced while the server runs.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#openid-connect-tokens and KEP-3331
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tiphys.apiserver.authn.oidc.configuration import read_settings
from tiphys.apiserver.authn.oidc.provider import Issuer, ProviderFailed
from tiphys.apiserver.authn.oidc.settings import AnonymousSettings, AuthenticationSettings, IssuerSettings
from tiphys.apiserver.authn.oidc.signatures import BadSignature, read_token
from tiphys.apiserver.call import User
from tiphys.apiserver.configfile import Followed
from tiphys.runtime.clock import Clock


class OidcTokens:
    anonymous: AnonymousSettings | None = None
    """What a file says of callers without a credential; None if there is none, or it says nothing."""

    def __init__(self, settings: Sequence[IssuerSettings], clock: Clock) -> None:
        self._clock = clock
        self._issuers = {each.url: Issuer(each, clock) for each in settings}

    async def user_of(self, token: str) -> User | None:
        try:
            signed = read_token(token)
        except BadSignature:
            return None
        issuer = self._issuers.get(str(signed.claims.get("iss")))
        return None if issuer is None else await issuer.user_of(signed)

    async def run(self) -> None:
        """Ask all issuers where their keys are; a slow one keeps no other waiting."""
        async with asyncio.TaskGroup() as group:
            for issuer in self._issuers.values():
                group.create_task(issuer.run())

    async def replace(self, settings: Sequence[IssuerSettings]) -> None:
        """Use other issuers, once all of them can be asked; those that stay as they are, stay. Raises
        ``ProviderFailed``."""
        known = {issuer.settings: issuer for issuer in self._issuers.values() if not issuer.problem}
        issuers = [known.get(each) or Issuer(each, self._clock) for each in settings]
        for issuer in issuers:
            if issuer.problem:
                await issuer.discover()
        for left in set(self._issuers.values()).difference(issuers):
            left.gone = True
        self._issuers = {issuer.settings.url: issuer for issuer in issuers}


class FollowedTokens:
    """The issuers of a file, which is followed."""

    def __init__(self, path: Path, disallowed: Sequence[str], clock: Clock) -> None:
        """Raises ``ConfigFileError``."""
        self._clock = clock
        self.file: Followed[AuthenticationSettings] = Followed(
            path, lambda text: read_settings(text, disallowed), clock, "authentication"
        )
        self._tokens = OidcTokens(self.file.value.issuers, clock)
        self.anonymous = self.file.value.anonymous

    async def user_of(self, token: str) -> User | None:
        return await self._tokens.user_of(token)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tokens.run())
            group.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            await self._clock.sleep(self.file.pause)
            await self.look()

    async def look(self) -> None:
        """Take over a file that has changed; what it says of anonymous callers counts from the next start."""
        settings = self.file.changed()
        if settings is None:
            return
        try:
            await self._tokens.replace(settings.issuers)
        except (ProviderFailed, OSError, ValueError) as error:
            self.file.refuse(error, for_now=isinstance(error, ProviderFailed))
        else:
            self.file.use(settings)
