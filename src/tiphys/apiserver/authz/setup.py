"""The authorizers of a server, in the order of ``--authorization-mode``.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/
"""

from __future__ import annotations

from dataclasses import dataclass

from tiphys.apiserver.authz.authorizer import AlwaysAllow, AlwaysDeny, Authorizer, Masters, Union
from tiphys.apiserver.authz.escalation import EscalationGuard
from tiphys.apiserver.authz.node import NodeAuthorizer
from tiphys.apiserver.authz.rbac import RBAC
from tiphys.apiserver.authz.rules import read_rules
from tiphys.apiserver.bootstrap.policy import node_rules
from tiphys.apiserver.config import Config
from tiphys.apiserver.registry.registries import Registries

MODES = ("Node", "RBAC", "AlwaysAllow", "AlwaysDeny")


@dataclass(slots=True)
class Authorization:
    """``rbac`` is there whether it decides or not, as escalation checks and rule reviews need it."""

    authorizer: Authorizer
    rbac: RBAC
    guard: EscalationGuard


def make(config: Config, registries: Registries) -> Authorization:
    """Raises ``ValueError`` for a mode that is not supported."""
    rbac = RBAC(registries)
    authorizers: list[Authorizer] = [Masters()]
    for mode in config.authorization_modes:
        match mode:
            case "Node":
                authorizers.append(NodeAuthorizer(registries, read_rules(node_rules())))
            case "RBAC":
                authorizers.append(rbac)
            case "AlwaysAllow":
                authorizers.append(AlwaysAllow())
            case "AlwaysDeny":
                authorizers.append(AlwaysDeny())
            case _:
                raise ValueError(f"authorization mode {mode!r} is not supported; choose from {', '.join(MODES)}")
    union = Union(authorizers)
    return Authorization(union, rbac, EscalationGuard(registries, union, rbac))
