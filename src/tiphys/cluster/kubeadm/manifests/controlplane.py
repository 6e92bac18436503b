"""The static pods of the API server, the controller manager and the scheduler. Pure.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import PurePath

from tiphys.api.object import Object
from tiphys.cluster.kubeadm import images, layout
from tiphys.cluster.kubeadm.configuration import arguments
from tiphys.cluster.kubeadm.configuration.dynamic import join_host_port
from tiphys.cluster.kubeadm.configuration.load import Configuration
from tiphys.cluster.kubeadm.manifests import pods
from tiphys.cluster.kubeadm.manifests.pods import Endpoint, HostPath

CONTROLLER_MANAGER_PORT, SCHEDULER_PORT = 10257, 10259
CA_CERTIFICATES = "/etc/ssl/certs"
CA_FOLDERS = (
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
)
"""Where /etc/ssl/certs may lead on a machine: mounted as well if it is there."""
AUTHORIZATION_MODES = ("Node", "RBAC", "Webhook", "ABAC", "AlwaysAllow", "AlwaysDeny")

Exists = Callable[[str], bool]


def apiserver(configuration: Configuration, exists: Exists) -> Object:
    """The API server's static pod; ``exists`` says which folders of certificates the host has."""
    cluster = configuration.cluster
    part = cluster["apiServer"]
    endpoint = Endpoint(pods.probe_host(configuration.address), configuration.port)
    made = pods.container(
        "kube-apiserver",
        images.component_image(cluster, "kube-apiserver"),
        arguments.command("kube-apiserver", apiserver_flags(configuration), part.get("extraArgs", [])),
        paths := [*_certificates(configuration, exists), *_etcd_paths(configuration), *_extra_paths(part)],
        {"cpu": "250m"},
        configuration.port,
    )
    made["livenessProbe"] = pods.liveness(endpoint, "/livez")
    made["readinessProbe"] = pods.readiness(endpoint, "/readyz")
    made["startupProbe"] = pods.startup(endpoint, "/livez", _timeout(configuration))
    where = join_host_port(configuration.address, configuration.port)
    annotations = {"kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint": where}
    return pods.static_pod(_with_environment(made, part), paths, annotations)


def controller_manager(configuration: Configuration, exists: Exists, *, external_ca: bool) -> Object:
    """The controller manager's static pod; with an ``external_ca`` it signs nothing."""
    part = configuration.cluster["controllerManager"]
    host = arguments.value(part.get("extraArgs", []), "bind-address") or "127.0.0.1"
    endpoint = Endpoint(pods.probe_host(host), CONTROLLER_MANAGER_PORT)
    flags = controller_manager_flags(configuration, external_ca=external_ca)
    made = pods.container(
        "kube-controller-manager",
        images.component_image(configuration.cluster, "kube-controller-manager"),
        arguments.command("kube-controller-manager", flags, part.get("extraArgs", [])),
        paths := [
            *_certificates(configuration, exists),
            HostPath("kubeconfig", layout.CONTROLLER_MANAGER_CONF, "FileOrCreate"),
            *_extra_paths(part),
        ],
        {"cpu": "200m"},
        CONTROLLER_MANAGER_PORT,
    )
    made["livenessProbe"] = pods.liveness(endpoint, "/healthz")
    made["startupProbe"] = pods.startup(endpoint, "/healthz", _timeout(configuration))
    return pods.static_pod(_with_environment(made, part), paths, {})


def scheduler(configuration: Configuration) -> Object:
    """The scheduler's static pod."""
    part = configuration.cluster["scheduler"]
    host = arguments.value(part.get("extraArgs", []), "bind-address") or "127.0.0.1"
    endpoint = Endpoint(pods.probe_host(host), SCHEDULER_PORT)
    made = pods.container(
        "kube-scheduler",
        images.component_image(configuration.cluster, "kube-scheduler"),
        arguments.command("kube-scheduler", scheduler_flags(), part.get("extraArgs", [])),
        paths := [HostPath("kubeconfig", layout.SCHEDULER_CONF, "FileOrCreate"), *_extra_paths(part)],
        {"cpu": "100m"},
        SCHEDULER_PORT,
    )
    made["livenessProbe"] = pods.liveness(endpoint, "/livez")
    made["readinessProbe"] = pods.readiness(endpoint, "/readyz")
    made["startupProbe"] = pods.startup(endpoint, "/livez", _timeout(configuration))
    return pods.static_pod(_with_environment(made, part), paths, {})


def apiserver_flags(configuration: Configuration) -> dict[str, str]:
    """The API server's flags by name, before the user's own."""
    cluster, pki = configuration.cluster, configuration.certificates
    networking = cluster["networking"]
    return {
        "advertise-address": configuration.address,
        "allow-privileged": "true",
        **_authorization(cluster["apiServer"].get("extraArgs", [])),
        "client-ca-file": f"{pki}/ca.crt",
        "enable-admission-plugins": "NodeRestriction",
        "enable-bootstrap-token-auth": "true",
        "kubelet-client-certificate": f"{pki}/apiserver-kubelet-client.crt",
        "kubelet-client-key": f"{pki}/apiserver-kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
        "proxy-client-cert-file": f"{pki}/front-proxy-client.crt",
        "proxy-client-key-file": f"{pki}/front-proxy-client.key",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-client-ca-file": f"{pki}/front-proxy-ca.crt",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "secure-port": str(configuration.port),
        "service-account-issuer": f"https://kubernetes.default.svc.{networking['dnsDomain']}",
        "service-account-key-file": f"{pki}/sa.pub",
        "service-account-signing-key-file": f"{pki}/sa.key",
        "service-cluster-ip-range": networking["serviceSubnet"],
        "tls-cert-file": f"{pki}/apiserver.crt",
        "tls-private-key-file": f"{pki}/apiserver.key",
        **_etcd_flags(configuration),
    }


def controller_manager_flags(configuration: Configuration, *, external_ca: bool) -> dict[str, str]:
    """The controller manager's flags by name, before the user's own."""
    cluster, pki = configuration.cluster, configuration.certificates
    flags = {
        "authentication-kubeconfig": layout.CONTROLLER_MANAGER_CONF,
        "authorization-kubeconfig": layout.CONTROLLER_MANAGER_CONF,
        "bind-address": "127.0.0.1",
        "client-ca-file": f"{pki}/ca.crt",
        "cluster-name": cluster["clusterName"],
        "cluster-signing-cert-file": "" if external_ca else f"{pki}/ca.crt",
        "cluster-signing-key-file": "" if external_ca else f"{pki}/ca.key",
        "controllers": "*,bootstrapsigner,tokencleaner",
        "kubeconfig": layout.CONTROLLER_MANAGER_CONF,
        "leader-elect": "true",
        "requestheader-client-ca-file": f"{pki}/front-proxy-ca.crt",
        "root-ca-file": f"{pki}/ca.crt",
        "service-account-private-key-file": f"{pki}/sa.key",
        "use-service-account-credentials": "true",
    }
    if pod_subnet := cluster["networking"].get("podSubnet"):
        flags |= {
            "allocate-node-cidrs": "true",
            "cluster-cidr": pod_subnet,
            "service-cluster-ip-range": cluster["networking"]["serviceSubnet"],
        }
    return flags


def scheduler_flags() -> dict[str, str]:
    return {
        "authentication-kubeconfig": layout.SCHEDULER_CONF,
        "authorization-kubeconfig": layout.SCHEDULER_CONF,
        "bind-address": "127.0.0.1",
        "kubeconfig": layout.SCHEDULER_CONF,
        "leader-elect": "true",
    }


def _authorization(extra: Iterable[arguments.Argument]) -> dict[str, str]:
    """Node and RBAC, unless the user names modes that exist, or a file that does."""
    given = list(extra)
    if arguments.value(given, "authorization-config") is not None:
        return {}
    asked = (arguments.value(given, "authorization-mode") or "").split(",")
    return {"authorization-mode": ",".join(mode for mode in asked if mode in AUTHORIZATION_MODES) or "Node,RBAC"}


def _etcd_flags(configuration: Configuration) -> dict[str, str]:
    etcd, pki = configuration.cluster["etcd"], configuration.certificates
    if external := etcd.get("external"):
        files = {"etcd-cafile": "caFile", "etcd-certfile": "certFile", "etcd-keyfile": "keyFile"}
        given = {flag: external[field] for flag, field in files.items() if external.get(field)}
        return {"etcd-servers": ",".join(external["endpoints"]), **given}
    local = "::1" if ":" in configuration.address else "127.0.0.1"
    servers = arguments.value(etcd["local"].get("extraArgs", []), "advertise-client-urls")
    return {
        "etcd-servers": servers or f"https://{join_host_port(local, 2379)}",
        "etcd-cafile": f"{pki}/etcd/ca.crt",
        "etcd-certfile": f"{pki}/apiserver-etcd-client.crt",
        "etcd-keyfile": f"{pki}/apiserver-etcd-client.key",
    }


def _certificates(configuration: Configuration, exists: Exists) -> list[HostPath]:
    """The cluster's certificates, and those that the machine trusts."""
    also = [HostPath(folder[1:].replace("/", "-"), folder) for folder in CA_FOLDERS if exists(folder)]
    return [HostPath("k8s-certs", configuration.certificates), HostPath("ca-certs", CA_CERTIFICATES), *also]


def _etcd_paths(configuration: Configuration) -> list[HostPath]:
    """The folders of an external etcd's certificates that no other mount has."""
    external = configuration.cluster["etcd"].get("external") or {}
    files = [external[name] for name in ("caFile", "certFile", "keyFile") if external.get(name)]
    covered = (configuration.certificates, CA_CERTIFICATES, *CA_FOLDERS)
    folders = {str(PurePath(file).parent) for file in files}
    wanted = sorted(folder for folder in folders if not folder.startswith(covered))
    outer = [folder for folder in wanted if not any(folder.startswith(f"{other}/") for other in wanted)]
    return [HostPath(f"etcd-certs-{position}", folder) for position, folder in enumerate(outer)]


def _extra_paths(part: Object) -> list[HostPath]:
    return [
        HostPath(
            volume["name"],
            volume["hostPath"],
            volume.get("pathType", ""),
            read_only=bool(volume.get("readOnly")),
            mounted_at=volume["mountPath"],
        )
        for volume in part.get("extraVolumes", [])
    ]


def _with_environment(container: Object, part: Object) -> Object:
    extra = part.get("extraEnvs")
    return {**container, "env": extra} if extra else container


def _timeout(configuration: Configuration) -> str:
    return str(configuration.node["timeouts"]["controlPlaneComponentHealthCheck"])
