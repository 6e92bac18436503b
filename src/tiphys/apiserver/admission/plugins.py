"""The plugins of a server, in upstream's order, and which of them are on.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#which-plugins-are-enabled-by-default
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tiphys.apiserver.admission.certificates import (
    CertificateApproval,
    CertificateSigning,
    CertificateSubjectRestriction,
)
from tiphys.apiserver.admission.ingressclass import DefaultIngressClass
from tiphys.apiserver.admission.limitranger import LimitRanger
from tiphys.apiserver.admission.namespacelifecycle import NamespaceLifecycle
from tiphys.apiserver.admission.noderestriction.plugin import NodeRestriction
from tiphys.apiserver.admission.ownerreferences import OwnerReferencesPermissionEnforcement
from tiphys.apiserver.admission.plugin import Plugin
from tiphys.apiserver.admission.podresize import PodResizeValidator
from tiphys.apiserver.admission.podsecurity import PodSecurity
from tiphys.apiserver.admission.podtopologylabels import PodTopologyLabels
from tiphys.apiserver.admission.policies.mutating import MutatingAdmissionPolicy
from tiphys.apiserver.admission.policies.validating import ValidatingAdmissionPolicy
from tiphys.apiserver.admission.priority import Priority
from tiphys.apiserver.admission.quota import ResourceQuota
from tiphys.apiserver.admission.runtimeclass import RuntimeClass
from tiphys.apiserver.admission.serviceaccount import ServiceAccount
from tiphys.apiserver.admission.storage import (
    DefaultStorageClass,
    PersistentVolumeClaimResize,
    StorageObjectInUseProtection,
)
from tiphys.apiserver.admission.taintnodes import TaintNodesByCondition
from tiphys.apiserver.admission.tolerationseconds import DefaultTolerationSeconds
from tiphys.apiserver.admission.webhooks.hooks import Hooks
from tiphys.apiserver.admission.webhooks.mutating import MutatingAdmissionWebhook
from tiphys.apiserver.admission.webhooks.validating import ValidatingAdmissionWebhook
from tiphys.apiserver.authz.authorizer import Authorizer
from tiphys.apiserver.config import Config
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.webhooks.client import WebhookCaller


@dataclass(frozen=True, slots=True)
class Context:
    """What plugins work with."""

    config: Config
    registries: Registries
    authorizer: Authorizer
    webhooks: WebhookCaller


Make = Callable[[Context], Plugin]


def _hooks(context: Context, plural: str) -> Hooks:
    return Hooks(context.registries, plural, context.webhooks, context.authorizer)


_DEFAULT_OFF = frozenset(("OwnerReferencesPermissionEnforcement", "NodeRestriction"))
PLUGINS: tuple[tuple[str, Make], ...] = (
    ("NamespaceLifecycle", lambda c: NamespaceLifecycle(c.registries)),
    ("LimitRanger", lambda c: LimitRanger(c.registries)),
    ("ServiceAccount", lambda c: ServiceAccount(c.registries, c.registries.ids.suffix)),
    ("NodeRestriction", lambda c: NodeRestriction(c.registries, c.authorizer)),
    ("TaintNodesByCondition", lambda c: TaintNodesByCondition()),
    ("PodSecurity", lambda c: PodSecurity(c.registries, c.config.default_pod_security)),
    ("Priority", lambda c: Priority(c.registries)),
    (
        "DefaultTolerationSeconds",
        lambda c: DefaultTolerationSeconds(
            c.config.not_ready_toleration_seconds, c.config.unreachable_toleration_seconds
        ),
    ),
    ("DefaultStorageClass", lambda c: DefaultStorageClass(c.registries)),
    ("StorageObjectInUseProtection", lambda c: StorageObjectInUseProtection()),
    (
        "OwnerReferencesPermissionEnforcement",
        lambda c: OwnerReferencesPermissionEnforcement(c.registries.scheme, c.authorizer),
    ),
    ("PersistentVolumeClaimResize", lambda c: PersistentVolumeClaimResize(c.registries)),
    ("RuntimeClass", lambda c: RuntimeClass(c.registries)),
    ("CertificateApproval", lambda c: CertificateApproval(c.authorizer)),
    ("CertificateSigning", lambda c: CertificateSigning(c.authorizer)),
    ("CertificateSubjectRestriction", lambda c: CertificateSubjectRestriction()),
    ("DefaultIngressClass", lambda c: DefaultIngressClass(c.registries)),
    ("PodTopologyLabels", lambda c: PodTopologyLabels(c.registries)),
    ("PodResizeValidator", lambda c: PodResizeValidator(c.registries)),
    ("MutatingAdmissionPolicy", lambda c: MutatingAdmissionPolicy(c.registries, c.authorizer)),
    (
        "MutatingAdmissionWebhook",
        lambda c: MutatingAdmissionWebhook(_hooks(c, "mutatingwebhookconfigurations")),
    ),
    ("ValidatingAdmissionPolicy", lambda c: ValidatingAdmissionPolicy(c.registries, c.authorizer)),
    (
        "ValidatingAdmissionWebhook",
        lambda c: ValidatingAdmissionWebhook(_hooks(c, "validatingwebhookconfigurations")),
    ),
    ("ResourceQuota", lambda c: ResourceQuota(c.registries)),
)
"""In the order in which they see a write. Users' plugins stand before the quota, which is last as it counts
what nobody refuses any more."""


def make_plugins(
    config: Config, registries: Registries, authorizer: Authorizer, webhooks: WebhookCaller
) -> list[Plugin]:
    """Raises ``ValueError`` for the name of a plugin that is not supported."""
    context = Context(config, registries, authorizer, webhooks)
    external = config.external_admission_plugins
    rows = (*PLUGINS[:-1], *external.items(), *PLUGINS[-1:])
    known = {name for name, _ in rows}
    for name in (*config.enable_admission_plugins, *config.disable_admission_plugins):
        if name not in known:
            raise ValueError(f"admission plugin {name!r} is not supported; choose from {', '.join(sorted(known))}")
    wanted = (known - _DEFAULT_OFF - set(config.disable_admission_plugins)) | set(config.enable_admission_plugins)
    return [make(context) for name, make in rows if name in wanted]
