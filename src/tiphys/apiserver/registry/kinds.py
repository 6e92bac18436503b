"""The kinds that differ from the rule by facts only: what their new objects' status is, and what counts as a change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.registry.strategy import (
    Strategy,
)

Facts = dict[str, Any]

SPEC = ("spec",)
_EMPTY: Object = {}
_WEBHOOKS: Facts = {"counts": ("webhooks",), "unconditional_update": False, "lengthy": True}
_STATUS_ALONE: Facts = {"status_leaves_metadata": True, "reset_by_status": ("metadata", "spec")}
_RETURNED: Facts = {"returns_deleted": True}
_ON_UPDATE: Facts = {"create_on_update": True}


def _status(initial: Object | None = None, **more: Any) -> Facts:
    return {"has_status": True, "initial_status": _EMPTY if initial is None else initial, **more}


FACTS: dict[tuple[str, str], Facts] = {
    ("", "endpoints"): _ON_UPDATE,
    ("", "podtemplates"): {"counts": ("template",), "returns_deleted": True},
    ("", "replicationcontrollers"): _status({"replicas": 0}, counts=SPEC, orphans_by_default=True),
    ("", "resourcequotas"): _status(returns_deleted=True),
    ("apps", "replicasets"): _status({"replicas": 0}, counts=SPEC),
    ("apps", "statefulsets"): _status(
        {"replicas": 0, "availableReplicas": 0},
        counts=SPEC,
        gated=("spec.updateStrategy.rollingUpdate.maxUnavailable",),
    ),
    ("autoscaling", "horizontalpodautoscalers"): _status({"desiredReplicas": 0, "currentMetrics": None}),
    ("batch", "cronjobs"): _status(counts=SPEC),
    ("networking.k8s.io", "ipaddresses"): {"adds_suffix": False},
    ("networking.k8s.io", "ingresses"): _status({"loadBalancer": {}}, counts=SPEC),
    ("networking.k8s.io", "ingressclasses"): {"counts": SPEC},
    ("networking.k8s.io", "networkpolicies"): {"counts": SPEC},
    ("networking.k8s.io", "servicecidrs"): _status(**_STATUS_ALONE),
    ("policy", "poddisruptionbudgets"): _status(
        {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0},
        counts=SPEC,
        unconditional_update=False,
    ),
    ("coordination.k8s.io", "leases"): {"create_on_update": True, "unconditional_update": False},
    ("node.k8s.io", "runtimeclasses"): {"create_on_update": True, "unconditional_update": False},
    ("storage.k8s.io", "csidrivers"): {
        "returns_deleted": True,
        "unconditional_update": False,
        "gated": ("spec.preventPodSchedulingIfMissing",),
        "counts": SPEC,
        "first_generation": 0,
    },
    ("storage.k8s.io", "csinodes"): {"returns_deleted": True, "unconditional_update": False},
    ("storage.k8s.io", "csistoragecapacities"): {"unconditional_update": False},
    ("storage.k8s.io", "storageclasses"): _RETURNED,
    ("storage.k8s.io", "volumeattributesclasses"): _RETURNED,
    ("storage.k8s.io", "volumeattachments"): _status(
        {"attached": False}, returns_deleted=True, unconditional_update=False, **_STATUS_ALONE
    ),
    ("resource.k8s.io", "deviceclasses"): {"counts": SPEC, "returns_deleted": True},
    ("resource.k8s.io", "resourceslices"): {"counts": SPEC, "returns_deleted": True},
    ("flowcontrol.apiserver.k8s.io", "flowschemas"): _status(counts=SPEC, **_STATUS_ALONE),
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"): _status(counts=SPEC, **_STATUS_ALONE),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): _WEBHOOKS,
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): _WEBHOOKS,
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"): _status(
        counts=SPEC, unconditional_update=False, lengthy=True, **_STATUS_ALONE
    ),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"): {
        "counts": SPEC,
        "unconditional_update": False,
    },
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"): {
        "counts": SPEC,
        "unconditional_update": False,
        "lengthy": True,
    },
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"): {
        "counts": SPEC,
        "unconditional_update": False,
    },
}

Make = Callable[[GroupVersionKind], Strategy]


def from_facts(group: str, plural: str) -> Make:
    """A strategy class with a kind's facts; the plain one if none exist."""
    facts = FACTS.get((group, plural))
    return type(f"{plural.capitalize()}Strategy", (Strategy,), facts) if facts else Strategy
