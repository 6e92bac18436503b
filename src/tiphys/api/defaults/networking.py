"""Defaults of the networking.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#networkpolicy-v1-networking-k8s-io
"""

from __future__ import annotations

from tiphys.api.defaults.common import child, if_missing, items
from tiphys.api.object import Object


def network_policy(obj: Object) -> None:
    spec = child(obj, "spec")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    for rule in [*items(spec, "ingress"), *items(spec, "egress")]:
        for port in items(rule, "ports"):
            if_missing(port, protocol="TCP")


def ingress_class(obj: Object) -> None:
    parameters = (obj.get("spec") or {}).get("parameters")
    if parameters is not None:
        if_missing(parameters, scope="Cluster")
