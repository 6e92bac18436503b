"""The phases of ``init``, in order.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-init/#init-workflow
"""

from __future__ import annotations

from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.phases.addon import ADDON
from tiphys.cluster.kubeadm.phases.bootstraptoken import BOOTSTRAP_TOKEN
from tiphys.cluster.kubeadm.phases.certs import CERTS
from tiphys.cluster.kubeadm.phases.kubeconfig import KUBECONFIG
from tiphys.cluster.kubeadm.phases.kubelet import KUBELET_FINALIZE, KUBELET_START
from tiphys.cluster.kubeadm.phases.mark import MARK_CONTROL_PLANE
from tiphys.cluster.kubeadm.phases.preflight import PREFLIGHT
from tiphys.cluster.kubeadm.phases.showjoin import SHOW_JOIN_COMMAND
from tiphys.cluster.kubeadm.phases.staticpods import CONTROL_PLANE, ETCD
from tiphys.cluster.kubeadm.phases.upload import UPLOAD_CERTS, UPLOAD_CONFIG
from tiphys.cluster.kubeadm.phases.wait import WAIT_CONTROL_PLANE
from tiphys.cluster.kubeadm.workflow import CommandPhase

INIT: tuple[CommandPhase[Installation], ...] = (
    PREFLIGHT,
    CERTS,
    KUBECONFIG,
    ETCD,
    CONTROL_PLANE,
    KUBELET_START,
    WAIT_CONTROL_PLANE,
    UPLOAD_CONFIG,
    UPLOAD_CERTS,
    MARK_CONTROL_PLANE,
    BOOTSTRAP_TOKEN,
    KUBELET_FINALIZE,
    ADDON,
    SHOW_JOIN_COMMAND,
)
