"""What the authorizers of a server are set to.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/
"""

from __future__ import annotations

from dataclasses import dataclass

from tiphys.apiserver.config import WebhookSettings

MODES = ("ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook")


@dataclass(frozen=True, slots=True)
class AuthorizerSettings:
    type: str
    name: str
    webhook: WebhookSettings | None = None
