"""What the manifests of add-ons leave open, of a cluster of `tiphys up`."""

from __future__ import annotations

from tiphys.addons.objects import AddonSettings
from tiphys.cluster.images import COMPONENT_IMAGE
from tiphys.cluster.settings import Settings


def settings_of(cluster: Settings) -> AddonSettings:
    """What the manifests leave open, of a cluster of `tiphys up`."""
    return AddonSettings(
        image=COMPONENT_IMAGE,
        server=cluster.server,
        pod_cidr=cluster.pod_cidr,
        dns_ip=cluster.dns_ip,
        cluster_domain=cluster.cluster_domain,
        proxy_mode=cluster.proxy_mode,
        bridge=cluster.bridge,
        cni_conf_dir=str(cluster.data_dir / "cni" / "net.d"),
        ipam_data_dir=str(cluster.data_dir / "cni" / "networks"),
    )
