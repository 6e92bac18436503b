"""The authenticators of a server, in order, and the keys of service account tokens.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from tiphys.api.object import Object
from tiphys.apiserver.authn.authenticator import (
    Authenticator,
    BearerTokens,
    ForTheServer,
    InProcess,
    TokenAuthenticator,
    Union,
)
from tiphys.apiserver.authn.bootstraptokens import BootstrapTokens
from tiphys.apiserver.authn.certificates import ClientCertificates, Issuers
from tiphys.apiserver.authn.legacytokens import LegacyTokens
from tiphys.apiserver.authn.requestheader import RequestHeaders
from tiphys.apiserver.authn.serviceaccounts import ServiceAccountTokens
from tiphys.apiserver.authn.subprotocol import SubprotocolTokens
from tiphys.apiserver.authn.tokenfile import StaticTokens
from tiphys.apiserver.config import Config
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.registry import Ids
from tiphys.runtime.clock import Clock

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from tiphys.apiserver.authn.oidc.tokens import FollowedTokens, OidcTokens
    from tiphys.apiserver.authn.serviceaccounts import TokenKeys
    from tiphys.apiserver.authn.webhooktokens import WebhookTokens


class Measured(Protocol):
    """An authenticator with figures of its own for ``/metrics``."""

    def figures(self) -> Iterable[Metric]: ...


@dataclass(slots=True)
class Authentication:
    """``anonymous``: whether callers without a credential may reach a path."""

    authenticator: Union
    bearers: BearerTokens
    keys: Callable[[], TokenKeys]
    audiences: tuple[str, ...]
    ids: Ids
    anonymous: Callable[[str], bool]
    measured: tuple[Measured, ...]
    issuers: FollowedTokens | OidcTokens | None = None
    webhook: WebhookTokens | None = None

    def jwks(self) -> list[Object]:
        from tiphys.api.jwt import jwk

        return [jwk(key) for key in self.keys().keys.values()]

    async def close(self) -> None:
        if self.webhook is not None:
            await self.webhook.close()

    def figures(self, server: str) -> Iterable[Metric]:
        """Of certificates, of accounts' tokens, and of the file that is followed; ``server`` is this API server."""
        from tiphys.apiserver.authn.oidc.tokens import FollowedTokens

        followed = self.issuers.file.figures(server) if isinstance(self.issuers, FollowedTokens) else ()
        return (*chain.from_iterable(each.figures() for each in self.measured), *followed)


def make(config: Config, registries: Registries, clock: Clock, ids: Ids) -> Authentication:
    """Raises ``ConfigFileError`` and ``KubeconfigError``."""
    audiences = config.api_audiences or config.service_account_issuers
    keys = lazy_keys(config, audiences)
    tokens: list[TokenAuthenticator] = []
    if config.tokens:
        tokens.append(ForTheServer(StaticTokens(config.tokens), audiences))
    accounts = (LegacyTokens(keys, registries), ServiceAccountTokens(keys, registries, clock))
    tokens += accounts
    if config.bootstrap_tokens:
        tokens.append(ForTheServer(BootstrapTokens(registries, clock), audiences))
    issuers = _issuers(config, clock)
    if issuers is not None:
        tokens.append(ForTheServer(issuers, audiences))
    webhook = _webhook(config, audiences, clock)
    if webhook is not None:
        tokens.append(webhook)
    bearers = BearerTokens(tokens, audiences, clock)
    by_certificate, certificates = _certificates(config, clock)
    union = Union((InProcess(), *by_certificate, bearers, SubprotocolTokens(bearers)))
    return Authentication(
        authenticator=union,
        bearers=bearers,
        keys=keys,
        audiences=tuple(audiences),
        ids=ids,
        anonymous=_anonymous(config, issuers),
        measured=(certificates, *accounts),
        issuers=issuers,
        webhook=webhook,
    )


def _issuers(config: Config, clock: Clock) -> FollowedTokens | OidcTokens | None:
    if config.authentication_config is not None:
        from tiphys.apiserver.authn.oidc.tokens import FollowedTokens

        return FollowedTokens(config.authentication_config, config.service_account_issuers, clock)
    if config.oidc is None:
        return None
    from tiphys.apiserver.authn.oidc.flags import issuer_of
    from tiphys.apiserver.authn.oidc.tokens import OidcTokens

    return OidcTokens([issuer_of(config.oidc, config.service_account_issuers)], clock)


def _webhook(config: Config, audiences: tuple[str, ...], clock: Clock) -> WebhookTokens | None:
    if config.token_webhook is None:
        return None
    from tiphys.apiserver.authn.webhooktokens import WebhookTokens

    return WebhookTokens(config.token_webhook, audiences, clock)


def _anonymous(config: Config, issuers: FollowedTokens | OidcTokens | None) -> Callable[[str], bool]:
    """The file's word, as it was at the start, counts for more than the flag's."""
    if issuers is not None and issuers.anonymous is not None:
        return issuers.anonymous.lets_in
    return lambda path: config.anonymous


def _certificates(config: Config, clock: Clock) -> tuple[list[Authenticator], ClientCertificates]:
    """Proxies first, as what they say counts for more than who they are themselves."""
    if config.front_proxy is None:
        certificates = ClientCertificates(clock)
        return [certificates], certificates
    certificates = ClientCertificates(clock, Issuers(config.client_ca or b""))
    return [RequestHeaders(config.front_proxy, clock), certificates], certificates


def lazy_keys(config: Config, audiences: tuple[str, ...]) -> Callable[[], TokenKeys]:
    """The keys, read when first needed: a server that sees no token loads no cryptography."""
    made: list[TokenKeys] = []

    def keys() -> TokenKeys:
        if not made:
            made.append(_read_keys(config, audiences))
        return made[0]

    return keys


def _read_keys(config: Config, audiences: tuple[str, ...]) -> TokenKeys:
    from tiphys.api import jwt
    from tiphys.apiserver.authn.serviceaccounts import TokenKeys

    pem = config.service_account_signing_key or jwt.new_key()
    signing = jwt.signing_key(pem)
    public = [signing.private.public_key(), *(jwt.public_key(text) for text in config.service_account_keys)]
    by_id = {jwt.key_id(key): key for key in public}
    return TokenKeys(signing, by_id, config.service_account_issuers, audiences)
