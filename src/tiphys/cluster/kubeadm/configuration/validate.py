"""What makes a complete document wrong: kubeadm's rules in kubeadm's words, and what Tiphys does not support. Pure.

Source: https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from tiphys.api.fielderrors import FieldError, aggregate, forbidden, invalid, required
from tiphys.api.meta.names import dns1123_subdomain as dns_subdomain
from tiphys.cluster.kubeadm.configuration import arguments
from tiphys.cluster.kubeadm.configuration.fields import TOKEN
from tiphys.cluster.kubeadm.failures import ConfigurationError

Document = dict[str, Any]
Errors = list[FieldError]

ALGORITHMS = ("ECDSA-P256", "ECDSA-P384", "RSA-2048", "RSA-3072", "RSA-4096")
UNMOUNT_FLAGS = ("MNT_FORCE", "MNT_DETACH", "MNT_EXPIRE", "UMOUNT_NOFOLLOW")
GATES = {"NodeLocalCRISocket": True, "PublicKeysECDSA": False, "RootlessControlPlane": False}
CERTIFICATE_KEY_BYTES = 32
_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")
_REPOSITORY = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
_SMALLEST_SERVICE, _SMALLEST_POD, _LARGEST_SERVICE_BITS, _MASK_DIFFERENCE = 10, 14, 20, 16


def check(errors: Iterable[FieldError]) -> None:
    """Raises ``ConfigurationError`` if there are any."""
    if wrong := list(errors):
        raise ConfigurationError(aggregate(wrong))


def validate_init(init: Document) -> Errors:
    return [
        *registration(init["nodeRegistration"], "nodeRegistration"),
        *bootstrap_tokens(init["bootstrapTokens"], "bootstrapTokens"),
        *endpoint(init["localAPIEndpoint"], "localAPIEndpoint"),
        *certificate_key(init.get("certificateKey", ""), "certificateKey"),
    ]


def validate_cluster(cluster: Document) -> Errors:
    """What is wrong with a ClusterConfiguration that has its defaults."""
    errors = [*networking(cluster, "networking"), *sans(cluster["apiServer"].get("certSANs", []), "apiServer.certSANs")]
    for part in ("apiServer", "controllerManager", "scheduler"):
        errors += extra_arguments(cluster[part].get("extraArgs", []), f"{part}.extraArgs")
    errors += absolute(cluster["certificatesDir"], "certificatesDir")
    errors += feature_gates(cluster.get("featureGates", {}), "featureGates")
    errors += host_port(cluster.get("controlPlaneEndpoint", ""), "controlPlaneEndpoint")
    for path in ("imageRepository", "dns.imageRepository", "etcd.local.imageRepository"):
        errors += repository(_at(cluster, path), path)
    errors += etcd(cluster["etcd"], "etcd")
    if cluster["encryptionAlgorithm"] not in ALGORITHMS:
        given = cluster["encryptionAlgorithm"]
        words = f'Invalid encryption algorithm "{given}". Must be one of [{" ".join(ALGORITHMS)}]'
        errors.append(invalid("encryptionAlgorithm", given, words))
    return errors


def validate_join(join: Document) -> Errors:
    errors = [*discovery(join["discovery"], "discovery"), *registration(join["nodeRegistration"], "nodeRegistration")]
    if control_plane := join.get("controlPlane"):
        errors += endpoint(control_plane["localAPIEndpoint"], "controlPlane.localAPIEndpoint")
        errors += certificate_key(control_plane.get("certificateKey", ""), "controlPlane.certificateKey")
    path = join["caCertPath"]
    if not (path.startswith("/") and path.endswith(".crt")):
        errors.append(invalid("caCertPath", path, "the ca certificate path must be an absolute path"))
    return errors


def validate_reset(reset: Document) -> Errors:
    errors = [*socket(reset["criSocket"], "criSocket"), *absolute(reset["certificatesDir"], "certificatesDir")]
    for position, given in enumerate(reset.get("unmountFlags", [])):
        if given not in UNMOUNT_FLAGS:
            errors.append(invalid("unmountFlags", f"index {position}", f"unknown unmount flag {given}"))
    return errors


def registration(node: Document, path: str) -> Errors:
    """What is wrong with a ``nodeRegistration``."""
    errors: Errors = []
    if not node.get("name"):
        words = (
            "--node-name or .nodeRegistration.name in the config file is a required value. It seems like this value "
            "couldn't be automatically detected in your environment, please specify the desired value using the CLI "
            "or config file."
        )
        errors.append(required(path, words))
    else:
        errors += [invalid(f"{path}.name", node["name"], why) for why in dns_subdomain(node["name"])]
    errors += socket(node.get("criSocket", ""), f"{path}.criSocket")
    errors += extra_arguments(node.get("kubeletExtraArgs", []), f"{path}.kubeletExtraArgs")
    if node["imagePullPolicy"] not in ("Always", "IfNotPresent", "Never"):
        errors.append(invalid(f"{path}.imagePullPolicy", node["imagePullPolicy"], "invalid pull policy"))
    return errors


def bootstrap_tokens(tokens: list[Document], path: str) -> Errors:
    errors: Errors = []
    for position, entry in enumerate(tokens):
        here = f"{path}.{position}"
        errors += token(entry["token"], f"{here}.token")
        errors += token_use(entry["usages"], entry["groups"], here)
        if "expires" in entry and "ttl" in entry:
            words = "the BootstrapToken .TTL and .Expires fields are mutually exclusive"
            errors.append(invalid(here, "", words))
    return errors


def token(given: str, path: str) -> Errors:
    return [] if TOKEN.fullmatch(given) else [invalid(path, given, "the bootstrap token is invalid")]


def token_use(usages: list[str], groups: list[str], path: str) -> Errors:
    """What is wrong with what a bootstrap token is for, and for whom."""
    errors: Errors = []
    if unknown := sorted(set(usages) - {"authentication", "signing"}):
        words = (
            f"invalid bootstrap token usage string: {','.join(unknown)}, valid usage options: signing,authentication"
        )
        errors.append(invalid(f"{path}.usages", usages, words))
    if groups and "authentication" not in usages:
        words = 'token groups cannot be specified unless --usages includes "authentication"'
        errors.append(invalid(f"{path}.groups", groups, words))
    for group in groups:
        if not _GROUP.fullmatch(group):
            words = (
                rf'bootstrap group "{group}" is invalid (must match'
                r" \Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z)"
            )
            errors.append(invalid(f"{path}.groups", groups, words))
    return errors


def discovery(given: Document, path: str) -> Errors:
    by_token, by_file = given.get("bootstrapToken"), given.get("file")
    errors: Errors = []
    if by_token is None and by_file is None:
        return [invalid(path, "", "bootstrapToken or file must be set")]
    if by_token is not None and by_file is not None:
        errors.append(invalid(path, "", "bootstrapToken and file cannot both be set"))
    if by_token is not None:
        errors += _token_discovery(by_token, f"{path}.bootstrapToken")
        errors += token(given.get("tlsBootstrapToken", ""), f"{path}.tlsBootstrapToken")
    if by_file is not None and urlsplit(by_file.get("kubeConfigPath", "")).scheme not in ("", "https"):
        words = "if a URL is used, the scheme must be https"
        errors.append(invalid(f"{path}.file.kubeConfigPath", by_file["kubeConfigPath"], words))
    return errors


def _token_discovery(given: Document, path: str) -> Errors:
    errors: Errors = []
    server = given.get("apiServerEndpoint", "")
    if not server:
        errors.append(required(path, "APIServerEndpoint is not set"))
    if not given.get("caCertHashes") and not given.get("unsafeSkipCAVerification"):
        words = (
            "using token-based discovery without caCertHashes can be unsafe. Set unsafeSkipCAVerification as true in "
            "your kubeadm config file or pass --discovery-token-unsafe-skip-ca-verification flag to continue"
        )
        errors.append(invalid(f"{path}.caCertHashes", "", words))
    for pin in given.get("caCertHashes") or []:
        kind, _, digest = pin.partition(":")
        if kind.lower() != "sha256" or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
            words = (
                "a hash is written sha256: and 64 hexadecimal digits; `tiphys token create --print-join-command`"
                " prints it"
            )
            errors.append(invalid(f"{path}.caCertHashes", pin, words))
    errors += token(given.get("token", ""), f"{path}.token")
    host, colon, port = server.rpartition(":")
    if server and not (host and colon and port.isdigit()):
        errors.append(invalid(f"{path}.apiServerEndpoint", server, f"address {server}: missing port in address"))
    return errors


def networking(cluster: Document, path: str) -> Errors:
    """What is wrong with the cluster's domain and its ranges of addresses."""
    net = cluster["networking"]
    errors = [invalid(f"{path}.dnsDomain", net["dnsDomain"], why) for why in dns_subdomain(net["dnsDomain"])]
    services, wrong = subnets(net["serviceSubnet"], _SMALLEST_SERVICE, f"{path}.serviceSubnet")
    errors += wrong
    for subnet in services:
        if subnet.max_prefixlen - subnet.prefixlen > _LARGEST_SERVICE_BITS:
            least = subnet.max_prefixlen - _LARGEST_SERVICE_BITS
            words = (
                f"specified service subnet is too large; for {subnet.max_prefixlen}-bit addresses, the mask must be >="
                f" {least}"
            )
            errors.append(invalid(f"{path}.serviceSubnet", str(subnet), words))
    if net.get("podSubnet"):
        pods, wrong = subnets(net["podSubnet"], _SMALLEST_POD, f"{path}.podSubnet")
        errors += wrong
        if arguments.value(cluster["controllerManager"].get("extraArgs", []), "allocate-node-cidrs") != "false":
            for subnet in pods:
                errors += _node_mask(cluster, subnet, f"{path}.podSubnet")
    return errors


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def subnets(given: str, smallest: int, path: str) -> tuple[list[Network], Errors]:
    """One network, or one of each family."""
    made: list[Network] = []
    for part in given.split(","):
        try:
            made.append(ipaddress.ip_network(part.strip(), strict=False))
        except ValueError:
            return [], [invalid(path, given, f"couldn't parse subnet: invalid CIDR address: {part.strip()}")]
    if len(made) > 2 or (len(made) == 2 and made[0].version == made[1].version):
        words = "expected one (IPv4 or IPv6) CIDR or two CIDRs from each family for dual-stack networking"
        return made, [invalid(path, given, words)]
    small = [net for net in made if net.num_addresses < smallest]
    return made, [
        invalid(path, str(net), f"subnet with {net.num_addresses} address(es) is too small, the minimum is {smallest}")
        for net in small
    ]


def _node_mask(cluster: Document, subnet: Network, path: str) -> Errors:
    """Whether the nodes' ranges fit into the pods' network."""
    family, usual = ("ipv4", 24) if subnet.version == 4 else ("ipv6", 64)
    name = f"node-cidr-mask-size-{family}"
    given = arguments.value(cluster["controllerManager"].get("extraArgs", []), name)
    if given is not None and not given.isdigit():
        words = f"could not parse the value of the kube-controller-manager flag {name} as an integer"
        return [invalid(path, str(subnet), words)]
    mask = int(given or usual)
    if subnet.prefixlen > mask:
        words = (
            f"the size of pod subnet with mask {subnet.prefixlen} is smaller than the size of node subnet with mask"
            f" {mask}"
        )
        return [invalid(path, str(subnet), words)]
    if mask - subnet.prefixlen > _MASK_DIFFERENCE:
        words = (
            f"pod subnet mask ({subnet.prefixlen}) and node-mask ({mask}) difference is greater than {_MASK_DIFFERENCE}"
        )
        return [invalid(path, str(subnet), words)]
    return []


def etcd(given: Document, path: str) -> Errors:
    local, external = given.get("local"), given.get("external")
    if local is not None and external is not None:
        return [invalid(path, "", ".Etcd.Local and .Etcd.External are mutually exclusive")]
    if local is not None:
        return [
            *absolute(local["dataDir"], f"{path}.local.dataDir"),
            *sans(local.get("serverCertSANs", []), f"{path}.local.serverCertSANs"),
            *sans(local.get("peerCertSANs", []), f"{path}.local.peerCertSANs"),
            *extra_arguments(local.get("extraArgs", []), f"{path}.local.extraArgs"),
        ]
    return _external_etcd(external or {}, f"{path}.external")


def _external_etcd(given: Document, path: str) -> Errors:
    errors: Errors = []
    ca, certificate, key = (given.get(name, "") for name in ("caFile", "certFile", "keyFile"))
    if bool(certificate) != bool(key):
        words = "either both or none of .Etcd.External.CertFile and .Etcd.External.KeyFile must be set"
        errors.append(invalid(path, "", words))
    if certificate and key and not ca:
        words = "setting .Etcd.External.CertFile and .Etcd.External.KeyFile requires .Etcd.External.CAFile"
        errors.append(invalid(path, "", words))
    if not given.get("endpoints"):
        errors.append(invalid(f"{path}.endpoints", "", "at least one endpoint must be specified"))
    for name, secure in (("endpoints", bool(ca or certificate or key)), ("httpEndpoints", False)):
        for url in given.get(name) or []:
            scheme = urlsplit(url).scheme
            if secure and scheme != "https":
                errors.append(invalid(f"{path}.{name}", url, "the URL must be using the HTTPS scheme"))
            if not scheme:
                errors.append(invalid(f"{path}.{name}", url, "the URL without scheme is not allowed"))
    for name in ("caFile", "certFile", "keyFile"):
        if given.get(name):
            errors += absolute(given[name], f"{path}.{name}")
    return errors


def sans(names: list[str], path: str) -> Errors:
    """A server's further names: addresses, DNS names, and those with a wildcard in front."""
    errors = []
    for name in names:
        if _is_address(name) or not dns_subdomain(name.removeprefix("*.")):
            continue
        words = "altname is not a valid IP address, DNS label or a DNS label with subdomain wildcards: "
        errors.append(invalid(path, name, words + "; ".join(dns_subdomain(name))))
    return errors


def endpoint(given: Document, path: str) -> Errors:
    errors: Errors = []
    if not _is_address(given.get("advertiseAddress", "")):
        errors.append(invalid(f"{path}.advertiseAddress", given.get("advertiseAddress", ""), "ip address is not valid"))
    if not 1 <= given["bindPort"] <= 65535:
        errors.append(invalid(f"{path}.bindPort", given["bindPort"], "port number is not valid"))
    return errors


def host_port(given: str, path: str) -> Errors:
    """``HOST``, ``HOST:PORT``, and IPv6 addresses in brackets; empty is fine."""
    if not given:
        return []
    host, port = split_host_port(given)
    if port and not (port.isdigit() and 1 <= int(port) <= 65535):
        words = f"hostport {given}: port {port} must be a valid number between 1 and 65535, inclusive"
        return [invalid(path, given, words)]
    if not _is_address(host) and dns_subdomain(host.removeprefix("*.")):
        words = f"hostport {given}: host '{host}' must be a valid IP address or a valid RFC-1123 DNS subdomain"
        return [invalid(path, given, words)]
    return []


def split_host_port(given: str) -> tuple[str, str]:
    """Host without brackets, and port; empty without one."""
    if _is_address(given.strip("[]")):
        return given.strip("[]"), ""
    host, _, port = given.rpartition(":") if ":" in given else (given, "", "")
    return host.strip("[]"), port


def certificate_key(given: str, path: str) -> Errors:
    if not given:
        return []
    try:
        size = len(bytes.fromhex(given))
    except ValueError:
        return [invalid(path, given, "certificate key decoding error: it is not hexadecimal")]
    if size != CERTIFICATE_KEY_BYTES:
        words = f"invalid certificate key size {size}, the key must be an AES key of size {CERTIFICATE_KEY_BYTES}"
        return [invalid(path, given, words)]
    return []


def feature_gates(given: dict[str, bool], path: str) -> Errors:
    errors = [invalid(path, given, f"{name} is not a valid feature name.") for name in given if name not in GATES]
    if given.get("RootlessControlPlane"):
        words = "RootlessControlPlane is not supported by Tiphys; its components run as root in their containers"
        errors.append(forbidden(f"{path}.RootlessControlPlane", words))
    return errors


def ignored_checks(*lists: Iterable[str]) -> frozenset[str]:
    """The names of checks that only warn, in lower case. Raises ``ConfigurationError``."""
    names = {name.strip().lower() for given in lists for name in given if name.strip()}
    if "all" in names and len(names) > 1:
        shown = ",".join(sorted(names))
        check([invalid("ignore-preflight-errors", shown, "don't specify individual checks if 'all' is used")])
    return frozenset(names)


def extra_arguments(given: list[Document], path: str) -> Errors:
    return [
        invalid(path, f"index {position}", "argument has no name")
        for position, argument in enumerate(given)
        if not argument.get("name")
    ]


def socket(given: str, path: str) -> Errors:
    if not given:
        return [invalid(path, given, "empty CRI socket")]
    scheme = urlsplit(given).scheme
    if scheme != "unix":
        return [invalid(path, given, f'only URL scheme "unix" is supported, got "{scheme}"')]
    return []


def repository(given: str, path: str) -> Errors:
    if given and not _REPOSITORY.fullmatch(given):
        return [invalid(path, given, "invalid image repository format")]
    return []


def absolute(given: str, path: str) -> Errors:
    return [] if given.startswith("/") else [invalid(path, given, "path is not absolute")]


def _is_address(given: str) -> bool:
    try:
        ipaddress.ip_address(given)
    except ValueError:
        return False
    return True


def _at(document: Document, path: str) -> str:
    value: Any = document
    for name in path.split("."):
        value = value.get(name, {})
    return value or ""
