"""What the issuers of tokens are set to.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#openid-connect-tokens and KEP-3331
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ClaimSource:
    """Where a part of the user is from: a claim, which ``prefix`` is put before, or an expression; both empty: none."""

    claim: str = ""
    prefix: str = ""
    expression: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """What has to hold: the claim has ``value``, or the expression is true."""

    claim: str = ""
    value: str = ""
    expression: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """``authority``: PEM of who has signed the issuer's certificate; None: the machine's authorities."""

    url: str
    audiences: tuple[str, ...]
    username: ClaimSource
    discovery_url: str = ""
    authority: bytes | None = None
    groups: ClaimSource = field(default_factory=ClaimSource)
    uid: ClaimSource = field(default_factory=ClaimSource)
    extra: tuple[tuple[str, str], ...] = ()
    """Keys and expressions."""
    claim_rules: tuple[Rule, ...] = ()
    user_rules: tuple[Rule, ...] = ()
    algorithms: tuple[str, ...] = ()
    """Empty: all."""


@dataclass(frozen=True, slots=True)
class AnonymousSettings:
    """``paths``: the only ones that callers without a credential reach; None: all."""

    enabled: bool
    paths: frozenset[str] | None = None

    def lets_in(self, path: str) -> bool:
        return self.enabled and (self.paths is None or path in self.paths)


@dataclass(frozen=True, slots=True)
class AuthenticationSettings:
    issuers: tuple[IssuerSettings, ...] = ()
    anonymous: AnonymousSettings | None = None
