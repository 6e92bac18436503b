"""The configuration of one run of init or join: from a file or from flags to complete, checked documents.

Source: https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tiphys.cluster.kubeadm.configuration import documents, dynamic, validate
from tiphys.cluster.kubeadm.configuration.components import kubelet_configuration, proxy_configuration
from tiphys.cluster.kubeadm.configuration.defaults import DEFAULTS
from tiphys.cluster.kubeadm.configuration.documents import Documents
from tiphys.cluster.kubeadm.configuration.dynamic import Host

Document = dict[str, Any]


@dataclass(slots=True)
class Configuration:
    """What init works with. ``node`` is the InitConfiguration; a control plane that joins has one too."""

    node: Document
    cluster: Document
    kubelet: Document = field(default_factory=dict)
    proxy: Document = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.node["nodeRegistration"]["name"])

    @property
    def address(self) -> str:
        return str(self.node["localAPIEndpoint"]["advertiseAddress"])

    @property
    def port(self) -> int:
        return int(self.node["localAPIEndpoint"]["bindPort"])

    @property
    def certificates(self) -> str:
        return str(self.cluster["certificatesDir"])

    @property
    def local_server(self) -> str:
        return f"https://{dynamic.join_host_port(self.address, self.port)}"

    @property
    def server(self) -> str:
        """The URL that stays when a control plane goes: that of the endpoint, or of this one if none is set."""
        return f"https://{endpoint}" if (endpoint := self.cluster.get("controlPlaneEndpoint")) else self.local_server

    @property
    def patches(self) -> str:
        return str((self.node.get("patches") or {}).get("directory") or "")


def init_configuration(given: Documents, host: Host, *, cgroup_driver: str = "systemd") -> Configuration:
    """Raises ``ConfigurationError`` with all that is wrong."""
    node = given.get("InitConfiguration") or _defaulted("InitConfiguration")
    cluster = given.get("ClusterConfiguration") or _defaulted("ClusterConfiguration")
    validate.check(validate.host_port(cluster.get("controlPlaneEndpoint", ""), "controlPlaneEndpoint"))
    dynamic.complete_init(node, cluster, host)
    validate.check([*validate.validate_init(node), *validate.validate_cluster(cluster)])
    kubelet = kubelet_configuration(given.get("KubeletConfiguration", {}), cluster, cgroup_driver=cgroup_driver)
    address = node["localAPIEndpoint"]["advertiseAddress"]
    proxy = proxy_configuration(given.get("KubeProxyConfiguration", {}), cluster, address)
    return Configuration(node, cluster, kubelet, proxy)


def join_configuration(given: Documents, host: Host) -> Document:
    """The JoinConfiguration, complete. Raises ``ConfigurationError``."""
    join = given.get("JoinConfiguration") or _defaulted("JoinConfiguration")
    dynamic.complete_registration(join["nodeRegistration"], host, control_plane="controlPlane" in join)
    if control_plane := join.get("controlPlane"):
        dynamic.complete_endpoint(control_plane["localAPIEndpoint"], host)
    validate.check(validate.validate_join(join))
    return join


def reset_configuration(given: Documents, host: Host) -> Document:
    """The ResetConfiguration, complete. Raises ``ConfigurationError``."""
    reset = given.get("ResetConfiguration") or _defaulted("ResetConfiguration")
    reset["criSocket"] = dynamic.runtime_socket(reset.get("criSocket", ""), host)
    validate.check(validate.validate_reset(reset))
    return reset


def check_all(given: Documents, host: Host) -> None:
    """What ``config validate`` looks at: every document of a file. Raises ``ConfigurationError``."""
    if {"InitConfiguration", "ClusterConfiguration"} & given.keys() or not given:
        init_configuration(given, host)
    if "JoinConfiguration" in given:
        join_configuration(given, host)
    if "ResetConfiguration" in given:
        reset_configuration(given, host)


def migrated(given: Documents, host: Host) -> list[Document]:
    """What ``config migrate`` writes: the documents, complete. Raises ``ConfigurationError``."""
    made: list[Document] = []
    if {"InitConfiguration", "ClusterConfiguration"} & given.keys():
        configuration = init_configuration(given, host)
        made.append(documents.typed(configuration.node, "InitConfiguration"))
        made.append(documents.typed(configuration.cluster, "ClusterConfiguration"))
    if "JoinConfiguration" in given:
        made.append(documents.typed(join_configuration(given, host), "JoinConfiguration"))
    if "ResetConfiguration" in given:
        made.append(documents.typed(reset_configuration(given, host), "ResetConfiguration"))
    if "UpgradeConfiguration" in given:
        made.append(documents.typed(given["UpgradeConfiguration"], "UpgradeConfiguration"))
    return made


def _defaulted(kind: str) -> Document:
    document: Document = {}
    DEFAULTS[kind](document)
    return document


def printed_defaults(kind: str, components: tuple[str, ...] = ()) -> list[Document]:
    """The documents of `config print`: complete, with a token and an address that stand for the user's."""
    host = Host("node", "1.2.3.4")
    sample = {"token": "abcdef.0123456789abcdef"}
    if kind == "init":
        node: Document = {"bootstrapTokens": [dict(sample)]}
        DEFAULTS["InitConfiguration"](node)
        cluster = _defaulted("ClusterConfiguration")
        made = init_configuration({"InitConfiguration": node, "ClusterConfiguration": cluster}, host)
        made.node["nodeRegistration"]["taints"] = None
        parts = {"KubeletConfiguration": made.kubelet, "KubeProxyConfiguration": made.proxy}
        return [
            documents.typed(made.node, "InitConfiguration"),
            documents.typed(made.cluster, "ClusterConfiguration"),
            *(documents.typed(parts[name], name) for name in components),
        ]
    if kind == "join":
        by_token = {**sample, "apiServerEndpoint": "kube-apiserver:6443", "unsafeSkipCAVerification": True}
        join: Document = {"discovery": {"bootstrapToken": by_token}}
        DEFAULTS["JoinConfiguration"](join)
        made_join = join_configuration({"JoinConfiguration": join}, host)
        made_join["nodeRegistration"]["taints"] = None
        return [documents.typed(made_join, "JoinConfiguration")]
    if kind == "reset":
        return [documents.typed(reset_configuration({}, host), "ResetConfiguration")]
    return [documents.typed(_defaulted("UpgradeConfiguration"), "UpgradeConfiguration")]
