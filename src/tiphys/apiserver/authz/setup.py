"""The authorizers of a server: those of ``--authorization-mode``, or those of a file, which is followed.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tiphys.api.fielderrors import aggregate
from tiphys.apiserver.authz.authorizer import (
    Access,
    AlwaysAllow,
    AlwaysDeny,
    Authorizer,
    Decision,
    Masters,
    RuleSource,
    Union,
    UserRules,
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
    """``rbac`` is there whether it decides or not, as escalation checks need it."""

    def __init__(self, config: Config, registries: Registries) -> None:
        """Raises ``ValueError`` for a mode that is not supported, and for a file that cannot be used."""
        self._registries = registries
        self.rbac = RBAC(registries)
        self._node = NodeAuthorizer(registries, read_rules(node_rules()))
        self._types: frozenset[str] = frozenset()
        self._file = None if config.authorization_config is None else self._followed(config)
        settings = _of_flags(config) if self._file is None else self._file.value
        self._types = frozenset(each.type for each in settings if each.type != "Webhook")
        self._abac = self._read_policies(config)
        self._figures = AuthorizationFigures()
        self._webhooks: list[WebhookAuthorizer] = []
        self._retired = Retired(registries.clock)
        self._made = self._make_all(settings)
        self.authorizer = Replaceable(self._union(settings, self._made))
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

    def _union(self, settings: Sequence[AuthorizerSettings], made: Sequence[Authorizer]) -> Union:
        pairs = zip(settings, made, strict=True)
        return Union([Masters(), *(Counted(each, authorizer, self._figures) for each, authorizer in pairs)])

    def _make_all(self, settings: Sequence[AuthorizerSettings]) -> list[RuleSource]:
        """Raises ``ValueError``; the webhooks that were made before are in ``_webhooks`` then."""
        return [self._make(each) for each in settings]

    def _make(self, settings: AuthorizerSettings) -> RuleSource:
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
            case "ABAC" if self._abac is not None:
                return self._abac
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
        if settings is None or settings == file.value:
            return  # another text that says the same leaves what the webhooks have answered so far
        left, self._webhooks = self._webhooks, []
        try:
            made = self._make_all(settings)
        except Exception as error:  # noqa: BLE001  a kubeconfig, or whatever it names, is wrong
            file.refuse(error)
            left, self._webhooks = self._webhooks, left
        else:
            self._made = made
            self.authorizer.use(self._union(settings, made))
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

    async def rules_of(self, user: User, namespace: str) -> UserRules:
        """What the authorizers say together, in their order."""
        answers = [await authorizer.rules_of(user, namespace) for authorizer in self._made]
        rules = [rule for answer in answers for rule in answer.rules]
        problems = [answer.error for answer in answers if answer.error]
        return UserRules(
            rules, aggregate(problems) if problems else "", incomplete=any(answer.incomplete for answer in answers)
        )


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
