"""Which volumes are this process's, if the driver runs on every node and each looks after its own.

Source: https://github.com/kubernetes-csi/external-provisioner#deployment-on-each-node
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.client.resources import CSI_NODES, NODES
from tiphys.csi.context import DriverContext
from tiphys.csi.provisioner import topology


def is_on_node(volume: Object, context: DriverContext) -> bool:
    """Whether a persistent volume can be used on this process's node; always, for a process that serves all nodes."""
    node_name = context.options.node
    if not node_name:
        return True
    node = context.informers.informer(NODES).store.get("", node_name)
    csi_node = context.informers.informer(CSI_NODES).store.get("", node_name)
    if node is None:
        return False
    segments = topology.segments_of(node, topology.keys_of(csi_node, context.facts.name))
    return bool(segments) and topology.is_at(volume, segments or {})
