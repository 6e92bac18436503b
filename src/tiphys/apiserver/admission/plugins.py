"""The plugins of a server, in upstream's order, and which of them are on.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#which-plugins-are-enabled-by-default
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiphys.apiserver.admission import pluginconfigs as configs
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
from tiphys.apiserver.admission.pods.podresize import PodResizeValidator
from tiphys.apiserver.admission.pods.podsecurity import PodSecurity
from tiphys.apiserver.admission.pods.podtopologylabels import PodTopologyLabels
from tiphys.apiserver.admission.pods.priority import Priority
from tiphys.apiserver.admission.pods.runtimeclass import RuntimeClass
from tiphys.apiserver.admission.pods.serviceaccount import ServiceAccount
from tiphys.apiserver.admission.pods.tolerationseconds import DefaultTolerationSeconds
from tiphys.apiserver.admission.policies.mutating import MutatingAdmissionPolicy
from tiphys.apiserver.admission.policies.validating import ValidatingAdmissionPolicy
from tiphys.apiserver.admission.quota import ResourceQuota
from tiphys.apiserver.admission.storage import (
    DefaultStorageClass,
    PersistentVolumeClaimResize,
    StorageObjectInUseProtection,
)
from tiphys.apiserver.admission.taintnodes import TaintNodesByCondition
from tiphys.apiserver.admission.webhooks.hooks import Hooks
from tiphys.apiserver.admission.webhooks.mutating import MutatingAdmissionWebhook
from tiphys.apiserver.admission.webhooks.validating import ValidatingAdmissionWebhook
from tiphys.apiserver.authz.authorizer import Authorizer
from tiphys.apiserver.config import Config
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.webhooks.client import WebhookCaller, WebhookClient
from tiphys.apiserver.webhooks.credentials import WebhookCredentials
from tiphys.runtime.lazily import Module

if TYPE_CHECKING:
    from tiphys.apiserver.admission.optional import (
        always,
        alwayspullimages,
        antiaffinity,
        eventratelimit,
        extendedresources,
        externalips,
        imagepolicy,
        namespaces,
        podnodeselector,
        podtolerations,
    )
else:  # most servers run none of them
    always = Module("tiphys.apiserver.admission.optional.always")
    alwayspullimages = Module("tiphys.apiserver.admission.optional.alwayspullimages")
    antiaffinity = Module("tiphys.apiserver.admission.optional.antiaffinity")
    eventratelimit = Module("tiphys.apiserver.admission.optional.eventratelimit")
    extendedresources = Module("tiphys.apiserver.admission.optional.extendedresources")
    externalips = Module("tiphys.apiserver.admission.optional.externalips")
    imagepolicy = Module("tiphys.apiserver.admission.optional.imagepolicy")
    namespaces = Module("tiphys.apiserver.admission.optional.namespaces")
    podnodeselector = Module("tiphys.apiserver.admission.optional.podnodeselector")
    podtolerations = Module("tiphys.apiserver.admission.optional.podtolerations")


@dataclass(frozen=True, slots=True)
class Context:
    """What plugins work with."""

    config: Config
    registries: Registries
    authorizer: Authorizer
    webhooks: WebhookCaller

    def configuration(self, plugin: str) -> Any:
        """The document that configures a plugin; None without one."""
        return self.config.admission_config.get(plugin)


Make = Callable[[Context], Plugin]


def _hooks(context: Context, plural: str, plugin: str) -> Hooks:
    caller, registries = context.webhooks, context.registries
    kubeconfig = configs.webhook_kubeconfig(plugin, context.configuration(plugin))
    if kubeconfig is not None:
        caller = WebhookClient(registries, WebhookCredentials(kubeconfig))
    return Hooks(registries, plural, caller, context.authorizer)


_DEFAULT_OFF = frozenset(
    (
        "AlwaysAdmit",
        "AlwaysDeny",
        "AlwaysPullImages",
        "DenyServiceExternalIPs",
        "EventRateLimit",
        "ExtendedResourceToleration",
        "ImagePolicyWebhook",
        "LimitPodHardAntiAffinityTopology",
        "NamespaceAutoProvision",
        "NamespaceExists",
        "NodeRestriction",
        "OwnerReferencesPermissionEnforcement",
        "PodNodeSelector",
        "PodTolerationRestriction",
    )
)
PLUGINS: tuple[tuple[str, Make], ...] = (
    ("AlwaysAdmit", lambda c: Plugin()),
    ("NamespaceAutoProvision", lambda c: namespaces.NamespaceAutoProvision(c.registries)),
    ("NamespaceLifecycle", lambda c: NamespaceLifecycle(c.registries)),
    ("NamespaceExists", lambda c: namespaces.NamespaceExists(c.registries)),
    ("LimitPodHardAntiAffinityTopology", lambda c: antiaffinity.LimitPodHardAntiAffinityTopology()),
    ("LimitRanger", lambda c: LimitRanger(c.registries)),
    ("ServiceAccount", lambda c: ServiceAccount(c.registries, c.registries.ids.suffix)),
    ("NodeRestriction", lambda c: NodeRestriction(c.registries, c.authorizer)),
    ("TaintNodesByCondition", lambda c: TaintNodesByCondition()),
    ("AlwaysPullImages", lambda c: alwayspullimages.AlwaysPullImages()),
    (
        "ImagePolicyWebhook",
        lambda c: imagepolicy.ImagePolicyWebhook(
            configs.image_policy(c.configuration("ImagePolicyWebhook")), c.registries.clock
        ),
    ),
    (
        "PodSecurity",
        lambda c: PodSecurity(c.registries, configs.pod_security(c.configuration("PodSecurity"))),
    ),
    (
        "PodNodeSelector",
        lambda c: podnodeselector.PodNodeSelector(
            c.registries, configs.node_selectors(c.configuration("PodNodeSelector"))
        ),
    ),
    ("Priority", lambda c: Priority(c.registries)),
    (
        "DefaultTolerationSeconds",
        lambda c: DefaultTolerationSeconds(
            c.config.not_ready_toleration_seconds, c.config.unreachable_toleration_seconds
        ),
    ),
    (
        "PodTolerationRestriction",
        lambda c: podtolerations.PodTolerationRestriction(
            c.registries, configs.toleration_rules(c.configuration("PodTolerationRestriction"))
        ),
    ),
    (
        "EventRateLimit",
        lambda c: eventratelimit.EventRateLimit(
            configs.event_limits(c.configuration("EventRateLimit")), c.registries.clock
        ),
    ),
    ("ExtendedResourceToleration", lambda c: extendedresources.ExtendedResourceToleration()),
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
    ("DenyServiceExternalIPs", lambda c: externalips.DenyServiceExternalIPs()),
    ("PodTopologyLabels", lambda c: PodTopologyLabels(c.registries)),
    ("PodResizeValidator", lambda c: PodResizeValidator(c.registries)),
    ("MutatingAdmissionPolicy", lambda c: MutatingAdmissionPolicy(c.registries, c.authorizer)),
    (
        "MutatingAdmissionWebhook",
        lambda c: MutatingAdmissionWebhook(_hooks(c, "mutatingwebhookconfigurations", "MutatingAdmissionWebhook")),
    ),
    ("ValidatingAdmissionPolicy", lambda c: ValidatingAdmissionPolicy(c.registries, c.authorizer)),
    (
        "ValidatingAdmissionWebhook",
        lambda c: ValidatingAdmissionWebhook(
            _hooks(c, "validatingwebhookconfigurations", "ValidatingAdmissionWebhook")
        ),
    ),
    (
        "ResourceQuota",
        lambda c: ResourceQuota(c.registries, configs.limited_resources(c.configuration("ResourceQuota"))),
    ),
    ("AlwaysDeny", lambda c: always.AlwaysDeny()),
)
"""In the order in which they see a write. Users' plugins stand before the quota, which comes as late as possible: it
counts what nobody refuses any more."""
_LAST = 2
FEATURES_OFF = frozenset(
    (
        "ClusterTrustBundleAttest",
        "JobValidation",
        "NodeDeclaredFeatureValidator",
        "PodGroupProtection",
        "PodGroupWorkloadExists",
    )
)
"""Upstream's plugins for features that Tiphys does not have: they may be named, and nothing is there for them to do."""


def make_plugins(
    config: Config, registries: Registries, authorizer: Authorizer, webhooks: WebhookCaller
) -> list[Plugin]:
    """Raises ``ValueError`` for the name of a plugin that is not supported."""
    context = Context(config, registries, authorizer, webhooks)
    external = config.external_admission_plugins
    rows = (*PLUGINS[:-_LAST], *external.items(), *PLUGINS[-_LAST:])
    known = {name for name, _ in rows}
    for name in (*config.enable_admission_plugins, *config.disable_admission_plugins):
        if name not in known and name not in FEATURES_OFF:
            raise ValueError(f"admission plugin {name!r} is not supported; choose from {', '.join(sorted(known))}")
    wanted = (known - _DEFAULT_OFF - set(config.disable_admission_plugins)) | set(config.enable_admission_plugins)
    return [make(context) for name, make in rows if name in wanted]
