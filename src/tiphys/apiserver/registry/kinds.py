"""The kinds that differ from the rule by facts only: what their new objects' status is, and what counts as a change.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.api.object import Object
from tiphys.api.scheme import GroupKind, GroupVersionKind
from tiphys.apiserver.registry.strategy import Strategy

Facts = dict[str, Any]

SPEC = ("spec",)
_EMPTY: Object = {}
_WEBHOOKS: Facts = {"counts": ("webhooks",), "unconditional_update": False, "lengthy": True}
_STATUS_ALONE: Facts = {"status_leaves_metadata": True, "reset_by_status": ("metadata", "spec")}
_RETURNED: Facts = {"returns_deleted": True}
_ON_UPDATE: Facts = {"create_on_update": True}


def _status(initial: Object | None = None, **more: Any) -> Facts:
    return {"has_status": True, "initial_status": _EMPTY if initial is None else initial, **more}


FACTS: dict[GroupKind, Facts] = {
    GroupKind("", "Endpoints"): _ON_UPDATE,
    GroupKind("", "PodTemplate"): {"counts": ("template",), "returns_deleted": True},
    GroupKind("", "ReplicationController"): _status({"replicas": 0}, counts=SPEC, orphans_by_default=True),
    GroupKind("", "ResourceQuota"): _status(returns_deleted=True),
    GroupKind("apps", "ReplicaSet"): _status({"replicas": 0}, counts=SPEC),
    GroupKind("apps", "StatefulSet"): _status(
        {"replicas": 0, "availableReplicas": 0},
        counts=SPEC,
        gated=("spec.updateStrategy.rollingUpdate.maxUnavailable",),
    ),
    GroupKind("autoscaling", "HorizontalPodAutoscaler"): _status({"desiredReplicas": 0, "currentMetrics": None}),
    GroupKind("batch", "CronJob"): _status(counts=SPEC),
    GroupKind("networking.k8s.io", "IPAddress"): {"adds_suffix": False},
    GroupKind("networking.k8s.io", "Ingress"): _status({"loadBalancer": {}}, counts=SPEC),
    GroupKind("networking.k8s.io", "IngressClass"): {"counts": SPEC},
    GroupKind("networking.k8s.io", "NetworkPolicy"): {"counts": SPEC},
    GroupKind("networking.k8s.io", "ServiceCIDR"): _status(**_STATUS_ALONE),
    GroupKind("policy", "PodDisruptionBudget"): _status(
        {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0},
        counts=SPEC,
        unconditional_update=False,
    ),
    GroupKind("coordination.k8s.io", "Lease"): {"create_on_update": True, "unconditional_update": False},
    GroupKind("node.k8s.io", "RuntimeClass"): {"create_on_update": True, "unconditional_update": False},
    GroupKind("storage.k8s.io", "CSIDriver"): {
        "returns_deleted": True,
        "unconditional_update": False,
        "gated": ("spec.preventPodSchedulingIfMissing",),
        "counts": SPEC,
        "first_generation": 0,
    },
    GroupKind("storage.k8s.io", "CSINode"): {"returns_deleted": True, "unconditional_update": False},
    GroupKind("storage.k8s.io", "CSIStorageCapacity"): {"unconditional_update": False},
    GroupKind("storage.k8s.io", "StorageClass"): _RETURNED,
    GroupKind("storage.k8s.io", "VolumeAttributesClass"): _RETURNED,
    GroupKind("storage.k8s.io", "VolumeAttachment"): _status(
        {"attached": False}, returns_deleted=True, unconditional_update=False, **_STATUS_ALONE
    ),
    GroupKind("resource.k8s.io", "DeviceClass"): {"counts": SPEC, "returns_deleted": True},
    GroupKind("resource.k8s.io", "ResourceSlice"): {"counts": SPEC, "returns_deleted": True},
    GroupKind("flowcontrol.apiserver.k8s.io", "FlowSchema"): _status(counts=SPEC, **_STATUS_ALONE),
    GroupKind("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"): _status(counts=SPEC, **_STATUS_ALONE),
    GroupKind("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _WEBHOOKS,
    GroupKind("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _WEBHOOKS,
    GroupKind("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): _status(
        counts=SPEC, unconditional_update=False, lengthy=True, **_STATUS_ALONE
    ),
    GroupKind("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): {
        "counts": SPEC,
        "unconditional_update": False,
    },
    GroupKind("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): {
        "counts": SPEC,
        "unconditional_update": False,
        "lengthy": True,
    },
    GroupKind("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): {
        "counts": SPEC,
        "unconditional_update": False,
    },
}

Make = Callable[[GroupVersionKind], Strategy]


def from_facts(kind: GroupKind) -> Make:
    """A strategy class with a kind's facts; the plain one if none exist."""
    facts = FACTS.get(kind)
    return type(f"{kind.kind}Strategy", (Strategy,), facts) if facts else Strategy
