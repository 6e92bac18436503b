"""What a kubelet with ``--cloud-provider=external`` and its cloud's controllers say to each other by the Node. Pure.

Source: https://kubernetes.io/docs/reference/labels-annotations-taints/ and
https://kubernetes.io/docs/tasks/administer-cluster/running-cloud-controller/
"""

from __future__ import annotations

UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
"""The taint of a node of which the cloud has not said yet what it is."""
PROVIDED_NODE_IP = "alpha.kubernetes.io/provided-node-ip"
"""The annotation of a kubelet whose addresses were given to it; separated by commas."""
EXTERNAL = "external"
"""The only cloud provider that a kubelet knows: somebody else's controllers."""
