"""The one issuer that the flags ``--oidc-*`` describe.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#configuring-the-api-server
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.apiserver.authn.oidc.settings import ClaimSource, IssuerSettings, Rule
from tiphys.apiserver.authn.oidc.signatures import ALGORITHMS
from tiphys.apiserver.config import OidcFlags


def issuer_of(flags: OidcFlags, disallowed: Sequence[str]) -> IssuerSettings:
    """Raises ``ValueError``, which names the flag."""
    if not flags.url.startswith("https://"):
        raise ValueError(f"--oidc-issuer-url {flags.url}: URL scheme must be https")
    if flags.url in disallowed:
        raise ValueError(f"--oidc-issuer-url {flags.url}: it issues the tokens of service accounts")
    if unknown := [name for name in flags.algorithms if name not in ALGORITHMS]:
        raise ValueError(f"--oidc-signing-algs: {unknown[0]} is not one of {', '.join(ALGORITHMS)}")
    return IssuerSettings(
        url=flags.url,
        audiences=(flags.client_id,),
        username=ClaimSource(flags.username_claim, _prefix(flags)),
        authority=flags.authority,
        groups=ClaimSource(flags.groups_claim, flags.groups_prefix) if flags.groups_claim else ClaimSource(),
        claim_rules=tuple(Rule(claim, value) for claim, value in flags.required_claims),
        algorithms=flags.algorithms,
    )


def _prefix(flags: OidcFlags) -> str:
    """Names of different issuers must not be taken for each other; ``-`` turns that off."""
    if flags.username_prefix is None:
        return "" if flags.username_claim == "email" else f"{flags.url}#"
    return "" if flags.username_prefix == "-" else flags.username_prefix
