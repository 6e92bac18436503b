"""Phase ``bootstrap-token``: the token by which nodes join, what it may do, and the public map of who the cluster is.

Source: https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.cluster import kubeconfig as files
from tiphys.cluster.kubeadm import api, kubeconfigs, tokens
from tiphys.cluster.kubeadm.certificates import disk
from tiphys.cluster.kubeadm.configuration.defaults import TOKEN_GROUP
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.workflow import CommandPhase

_CSR = "system:certificates.k8s.io:certificatesigningrequests"


async def run(context: Installation) -> None:
    wanted = [tokens.from_document(entry, context.now) for entry in context.configuration.node["bootstrapTokens"]]
    if context.show_token:
        shown = [token.text for token in wanted]
        words = f"Using token: {shown[0]}" if len(shown) == 1 else f"Using tokens: [{' '.join(shown)}]"
        context.say(f"[bootstrap-token] {words}")
    context.say("[bootstrap-token] Configuring bootstrap tokens, cluster-info ConfigMap, RBAC Roles")
    await api.ensure(context, [token.secret() for token in wanted])
    for words, objects in rights():
        context.say(f"[bootstrap-token] Configured RBAC rules to allow {words}")
        await api.ensure(context, objects)
    context.say('[bootstrap-token] Creating the "cluster-info" ConfigMap in the "kube-public" namespace')
    await api.ensure(context, cluster_info(context))


def rights() -> list[tuple[str, list[Object]]]:
    """What tokens, nodes and the API server may do, with the words that say it."""
    bootstrappers, nodes = [api.group(TOKEN_GROUP)], [api.group("system:nodes")]
    get_nodes: Object = {
        "apiVersion": f"{api.RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "kubeadm:get-nodes"},
        "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]}],
    }
    return [
        (
            "Node Bootstrap tokens to get nodes",
            [get_nodes, api.cluster_binding("kubeadm:get-nodes", "kubeadm:get-nodes", bootstrappers)],
        ),
        (
            "Node Bootstrap tokens to post CSRs in order for nodes to get long term certificate credentials",
            [api.cluster_binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", bootstrappers)],
        ),
        (
            "the csrapprover controller automatically approve CSRs from a Node Bootstrap Token",
            [api.cluster_binding("kubeadm:node-autoapprove-bootstrap", f"{_CSR}:nodeclient", bootstrappers)],
        ),
        (
            "certificate rotation for all node client certificates in the cluster",
            [api.cluster_binding("kubeadm:node-autoapprove-certificate-rotation", f"{_CSR}:selfnodeclient", nodes)],
        ),
        (
            "the API server kubelet client certificate to access the kubelet API",
            [
                api.cluster_binding(
                    "kubeadm:apiserver-kubelet-client",
                    "system:kubelet-api-admin",
                    [api.user("kube-apiserver-kubelet-client")],
                )
            ],
        ),
    ]


def cluster_info(context: Installation) -> list[Object]:
    """The map that everybody may read: where the API server is, and whom to trust. The controllers sign it."""
    authority = disk.certificate_file(context.pki, "ca").read_bytes()
    public = files.dump(kubeconfigs.cluster_only(context.configuration.server, authority)).decode()
    role = "kubeadm:bootstrap-signer-clusterinfo"
    return [
        api.config_map("cluster-info", "kube-public", {"kubeconfig": public}),
        api.reader_role(role, "kube-public", "configmaps", "cluster-info"),
        api.role_binding(role, "kube-public", [api.user("system:anonymous")]),
    ]


BOOTSTRAP_TOKEN: CommandPhase[Installation] = CommandPhase(
    "bootstrap-token", "Generates bootstrap tokens used to join a node to a cluster", run
)
