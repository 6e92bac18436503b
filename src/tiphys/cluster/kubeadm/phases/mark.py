"""Phase ``mark-control-plane``: the labels and taints by which a node is known as one of the control plane.

Source: https://kubernetes.io/docs/reference/labels-annotations-taints/#node-role-kubernetes-io-control-plane
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.client.resources import NODES
from tiphys.client.rest import Client
from tiphys.cluster.kubeadm import api
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.kubeletfiles import taint_text
from tiphys.cluster.kubeadm.workflow import CommandPhase
from tiphys.runtime import durations

LABELS = ("node-role.kubernetes.io/control-plane", "node.kubernetes.io/exclude-from-external-load-balancers")


async def mark(context: Installation) -> None:
    name = context.configuration.name
    taints = context.configuration.node["nodeRegistration"].get("taints") or []
    context.say(
        f"[mark-control-plane] Marking the node {name} as control-plane by adding the labels: [{' '.join(LABELS)}]"
    )
    if taints:
        shown = " ".join(taint_text(taint) for taint in taints)
        context.say(f"[mark-control-plane] Marking the node {name} as control-plane by adding the taints [{shown}]")
    if context.dry_run:
        return
    seconds = durations.seconds(context.configuration.node["timeouts"]["kubernetesAPICall"])
    async with api.administrator(context) as client:
        await api.retried(lambda: _mark(client, name, taints), seconds, f"marking node {name}")


async def _mark(client: Client, name: str, taints: list[Object]) -> None:
    await client.update(NODES, marked(await client.get(NODES, name), taints))


def marked(node: Object, taints: list[Object]) -> Object:
    """The node with the labels, and with the taints before those that it has."""
    labels = {**(node["metadata"].get("labels") or {}), **dict.fromkeys(LABELS, "")}
    spec = node.get("spec") or {}
    others = [taint for taint in spec.get("taints") or [] if _key(taint) not in {_key(wanted) for wanted in taints}]
    return {
        **node,
        "metadata": {**node["metadata"], "labels": labels},
        "spec": {**spec, "taints": [*taints, *others]},
    }


def _key(taint: Object) -> tuple[str, str]:
    return taint["key"], taint.get("effect", "")


MARK_CONTROL_PLANE: CommandPhase[Installation] = CommandPhase(
    "mark-control-plane", "Mark a node as a control-plane", mark
)
