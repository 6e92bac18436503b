"""The authorizers of a server: those of ``--authorization-mode``, or those of a file, which is followed.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tiphys.api.object import Object
from tiphys.apiserver.authz.authorizer import (
    Access,
    AlwaysAllow,
    AlwaysDeny,
    Authorizer,
    Decision,
    Masters,
    Union,
    Verdict,
)
from tiphys.apiserver.authz.escalation import EscalationGuard
from tiphys.apiserver.authz.figures import AuthorizationFigures
from tiphys.apiserver.authz.node import NodeAuthorizer
from tiphys.apiserver.authz.rbac import RBAC
from tiphys.apiserver.authz.rules import read_rules
from tiphys.apiserver.authz.settings import MODES, AuthorizerSettings
from tiphys.apiserver.bootstrap.policy import node_rules
from tiphys.apiserver.call import User
from tiphys.apiserver.config import Config
from tiphys.apiserver.configfile import ConfigFileError, Followed, Retired
from tiphys.apiserver.registry.registries import Registries

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from tiphys.apiserver.authz.abac import AbacAuthorizer
    from tiphys.apiserver.authz.webhook import WebhookAuthorizer

_DECIDED = {Verdict.ALLOW: "allowed", Verdict.DENY: "denied"}


class Authorization:
    """``rbac`` is there whether it decides or not, as escalation checks and rule reviews need it; ``abac`` if one of
    the authorizers was so from the start."""

    def __init__(self, config: Config, registries: Registries) -> None:
        """Raises ``ValueError`` for a mode that is not supported, and for a file that cannot be used."""
        self._registries = registries
        self.rbac = RBAC(registries)
        self._node = NodeAuthorizer(registries, read_rules(node_rules()))
        self._types: frozenset[str] = frozenset()
        self._file = None if config.authorization_config is None else self._followed(config)
        settings = _of_flags(config) if self._file is None else self._file.value
        self._types = frozenset(each.type for each in settings if each.type != "Webhook")
        self.abac = self._read_policies(config)
        self._figures = AuthorizationFigures()
        self._webhooks: list[WebhookAuthorizer] = []
        self._retired = Retired(registries.clock)
        self.authorizer = Replaceable(self._union(settings))
        self.guard = EscalationGuard(registries, self.authorizer, self.rbac)

    def _followed(self, config: Config) -> Followed[tuple[AuthorizerSettings, ...]]:
        from tiphys.apiserver.authz.configuration import read_authorizers

        def read(text: bytes) -> tuple[AuthorizerSettings, ...]:
            return read_authorizers(text, self._types)

        assert config.authorization_config is not None
        return Followed(config.authorization_config, read, self._registries.clock, "authorization")

    def _read_policies(self, config: Config) -> AbacAuthorizer | None:
        if "ABAC" not in self._types:
            return None
        from tiphys.apiserver.authz.abac import AbacAuthorizer, read_policies

        if config.authorization_policy is None:
            raise ValueError("authorization-mode ABAC needs a policy file; name it: --authorization-policy-file")
        return AbacAuthorizer(read_policies(config.authorization_policy))

    # -- the union

    def _union(self, settings: Sequence[AuthorizerSettings]) -> Union:
        """Raises ``ValueError``; what webhooks hold so far is let go of by ``_close``."""
        counted = [Counted(each, self._make(each), self._figures) for each in settings]
        return Union([Masters(), *counted])

    def _make(self, settings: AuthorizerSettings) -> Authorizer:
        match settings.type:
            case "AlwaysAllow":
                return AlwaysAllow()
            case "AlwaysDeny":
                return AlwaysDeny()
            case "Webhook":
                return self._webhook(settings)
        if settings.type not in self._types:
            raise ConfigFileError(
                f"authorizer type {settings.type} is not allowed if it was not enabled at initial server startup"
            )
        match settings.type:
            case "Node":
                return self._node
            case "RBAC":
                return self.rbac
            case "ABAC" if self.abac is not None:
                return self.abac
        raise ValueError(f"authorization mode {settings.type!r} is not supported; choose from {', '.join(MODES)}")

    def _webhook(self, settings: AuthorizerSettings) -> WebhookAuthorizer:
        from tiphys.apiserver.authz.webhook import WebhookAuthorizer

        assert settings.webhook is not None
        made = WebhookAuthorizer(settings.name, settings.webhook, self._registries.clock, self._figures)
        self._webhooks.append(made)
        return made

    # -- life

    @property
    def allows_all(self) -> bool:
        """Whether everybody may do everything, by the configuration of the start."""
        return "AlwaysAllow" in self._types

    async def run(self) -> None:
        """Follow the file, if there is one."""
        while self._file is not None:
            await self._registries.clock.sleep(self._file.pause)
            self._look(self._file)
            await self._retired.sweep()

    def _look(self, file: Followed[tuple[AuthorizerSettings, ...]]) -> None:
        settings = file.changed()
        if settings is None:
            return
        left, self._webhooks = self._webhooks, []
        try:
            union = self._union(settings)
        except Exception as error:  # noqa: BLE001  a kubeconfig, or whatever it names, is wrong
            file.refuse(error)
            left, self._webhooks = self._webhooks, left
        else:
            self.authorizer.use(union)
            file.use(settings)
        for webhook in left:
            self._retired.add(webhook.longest, webhook.close)

    async def close(self) -> None:
        await self._retired.close()
        for webhook in self._webhooks:
            await webhook.close()

    def figures(self, server: str) -> Iterable[Metric]:
        """``server`` is the API server's identity."""
        yield from self._figures.collect()
        if self._file is not None:
            yield from self._file.figures(server)

    async def rules_of(self, user: User, namespace: str) -> tuple[list[Object], list[str]]:
        """What a user may do in a namespace, as rules; and which authorizers cannot tell."""
        rules: list[Object] = list(await self.rbac.rules_of(user, namespace))
        if self.abac is not None:
            rules += self.abac.rules_of(user, namespace)
        silent = ["webhook authorizer does not support user rule resolution"] if self._webhooks else []
        return rules, silent


class Replaceable:
    """An authorizer in the place of which another one can be put."""

    def __init__(self, current: Authorizer) -> None:
        self._current = current

    def use(self, authorizer: Authorizer) -> None:
        self._current = authorizer

    async def authorize(self, access: Access) -> Decision:
        return await self._current.authorize(access)


class Counted:
    """An authorizer whose decisions are counted."""

    def __init__(self, settings: AuthorizerSettings, authorizer: Authorizer, figures: AuthorizationFigures) -> None:
        self._authorizer = authorizer
        self._decisions = figures.decisions.counts
        self._keys = {verdict: (settings.type, settings.name, text) for verdict, text in _DECIDED.items()}

    async def authorize(self, access: Access) -> Decision:
        decision = await self._authorizer.authorize(access)
        key = self._keys.get(decision.verdict)
        if key is not None:
            self._decisions[key] += 1
        return decision


def _of_flags(config: Config) -> tuple[AuthorizerSettings, ...]:
    modes = config.authorization_modes
    for mode in modes:
        if mode not in MODES:
            raise ValueError(f"authorization mode {mode!r} is not supported; choose from {', '.join(MODES)}")
    if len(set(modes)) < len(modes):
        raise ValueError(f"authorization-mode {list(modes)} has mode specified more than once")
    if (config.authorization_policy is not None) != ("ABAC" in modes):
        raise ValueError("--authorization-policy-file and the authorization mode ABAC need each other")
    if (config.authorization_webhook is not None) != ("Webhook" in modes):
        raise ValueError("--authorization-webhook-config-file and the authorization mode Webhook need each other")
    return tuple(
        AuthorizerSettings("Webhook", "default", config.authorization_webhook)
        if mode == "Webhook"
        else AuthorizerSettings(mode, mode.lower())
        for mode in modes
    )
