"""The phases of ``init``, in order.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-init/#init-workflow
"""

from __future__ import annotations

from tiphys.cluster.kubeadm.context import Context
from tiphys.cluster.kubeadm.phases.certs import CERTS
from tiphys.cluster.kubeadm.phases.kubeconfig import KUBECONFIG
from tiphys.cluster.kubeadm.phases.staticpods import CONTROL_PLANE, ETCD
from tiphys.cluster.kubeadm.workflow import Phase

INIT: tuple[Phase[Context], ...] = (
    CERTS,
    KUBECONFIG,
    ETCD,
    CONTROL_PLANE,
)
