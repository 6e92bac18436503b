"""Phases ``upload-config`` and ``upload-certs``: what nodes that join read from the cluster.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-init-phase/#cmd-phase-upload-config
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

import yaml

from tiphys.client.resources import SECRETS
from tiphys.cluster.kubeadm import api, copycerts, tokens
from tiphys.cluster.kubeadm.configuration import documents
from tiphys.cluster.kubeadm.configuration.defaults import TOKEN_GROUP
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.cluster.kubeadm.workflow import CommandPhase
from tiphys.cluster.tlsbootstrap import new_token

SYSTEM, KUBEADM_CONFIG, KUBELET_CONFIG = "kube-system", "kubeadm-config", "kubelet-config"
NODES_GROUP = "system:nodes"
VIRTUAL_ADDRESS = "tiphys.io/virtual-address"
"""Annotation of the ConfigMap: control planes that join hold the endpoint's address, too."""
HASH = "kubeadm.kubernetes.io/component-config.hash"
_CERTIFICATES_LIVE = timedelta(hours=2)


async def kubeadm_config(context: Installation) -> None:
    """The ClusterConfiguration: nodes and those who are about to be may read it."""
    context.say(
        f'[upload-config] Storing the configuration used in ConfigMap "{KUBEADM_CONFIG}" in the "{SYSTEM}" Namespace'
    )
    document = documents.typed(context.configuration.cluster, "ClusterConfiguration")
    text = yaml.dump(document, Dumper=yaml.CSafeDumper)
    role = "kubeadm:nodes-kubeadm-config"
    marks = {VIRTUAL_ADDRESS: "true"} if context.virtual_address else None
    await api.ensure(
        context,
        [
            api.config_map(KUBEADM_CONFIG, SYSTEM, {"ClusterConfiguration": text}, marks),
            api.reader_role(role, SYSTEM, "configmaps", KUBEADM_CONFIG),
            api.role_binding(role, SYSTEM, [api.group(TOKEN_GROUP), api.group(NODES_GROUP)]),
        ],
    )


async def kubelet_config(context: Installation) -> None:
    """The kubelets' configuration, with the hash that says that nobody has changed it."""
    context.say(
        f'[kubelet] Creating a ConfigMap "{KUBELET_CONFIG}" in namespace {SYSTEM} with the configuration for the '
        "kubelets in the cluster"
    )
    document = documents.typed(context.configuration.kubelet, "KubeletConfiguration")
    text = yaml.dump(document, Dumper=yaml.CSafeDumper)
    digest = hashlib.sha256(f"kubelet:{text}".encode()).hexdigest()
    role = "kubeadm:kubelet-config"
    await api.ensure(
        context,
        [
            api.config_map(KUBELET_CONFIG, SYSTEM, {"kubelet": text}, {HASH: f"sha256:{digest}"}),
            api.reader_role(role, SYSTEM, "configmaps", KUBELET_CONFIG),
            api.role_binding(role, SYSTEM, [api.group(NODES_GROUP), api.group(TOKEN_GROUP)]),
        ],
    )


async def certificates(context: Installation) -> None:
    """The shared certificates in a Secret, encrypted; a token that lives for two hours owns it."""
    if not context.upload_certs:
        context.say("[upload-certs] Skipping phase. Please see --upload-certs")
        return
    if context.external_ca:
        raise KubeadmError("can't use upload-certs with an external CA or an external front-proxy CA")
    node = context.configuration.node
    node["certificateKey"] = node.get("certificateKey") or copycerts.new_key()
    await upload(context, node["certificateKey"])
    if context.show_certificate_key:
        context.say(f"[upload-certs] Using certificate key:\n{node['certificateKey']}")


async def upload(context: Installation, key: str) -> None:
    """Put the certificates, encrypted with ``key``, into a Secret, and let joining nodes read it."""
    name = copycerts.SECRET
    context.say(f'[upload-certs] Storing the certificates in Secret "{name}" in the "{SYSTEM}" Namespace')
    data = copycerts.encrypted(context.configuration, context.places, key)
    role = f"kubeadm:{name}"
    rights = [
        api.reader_role(role, SYSTEM, "secrets", name),
        api.role_binding(role, SYSTEM, [api.group(TOKEN_GROUP)]),
    ]
    if context.dry_run:
        await api.ensure(context, [copycerts.secret(data, None), *rights])
        return
    owner = tokens.BootstrapToken(
        new_token(),
        "Proxy for managing TTL for the kubeadm-certs secret",
        expires=context.now + _CERTIFICATES_LIVE,
        usages=(),
        groups=(),
    )
    async with api.administrator(context) as client:
        made = await client.create(SECRETS, owner.secret())
        await api.write(client, copycerts.secret(data, made))
    await api.ensure(context, rights)


UPLOAD_CONFIG: CommandPhase[Installation] = CommandPhase(
    "upload-config",
    "Upload the kubeadm and kubelet configuration to a ConfigMap",
    None,
    (
        CommandPhase("kubeadm", "Upload the kubeadm ClusterConfiguration to a ConfigMap", kubeadm_config),
        CommandPhase("kubelet", "Upload the kubelet component config to a ConfigMap", kubelet_config),
    ),
)
UPLOAD_CERTS: CommandPhase[Installation] = CommandPhase(
    "upload-certs", "Upload certificates to kubeadm-certs", certificates
)
