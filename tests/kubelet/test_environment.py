"""Variables, the downward API, and what else a container is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kubelet.world import container, pod
from tiphys.api.pods.qos import qos_of
from tiphys.kubelet.container.environment import (
    EnvironmentFailure,
    EnvironmentSources,
    Lookup,
    expand,
    make_environment,
    service_variables,
)
from tiphys.kubelet.container.resources import linux_resources
from tiphys.kubelet.container.runtime_config import sandbox_config
from tiphys.kubelet.container.security import (
    HostSecurity,
    ImageUser,
    SecurityError,
    container_security,
    verify_non_root,
)
from tiphys.kubelet.node.network import hostname_and_domain, hosts_file
from tiphys.kubelet.node.resolver import (
    ClusterDNS,
    Resolver,
    complaints,
    host_complaint,
    parse_resolver,
    pod_resolver,
)
from tiphys.kubelet.pod.fields import FieldError, field_value, resource_value
from tiphys.kubelet.pod.qos import oom_score_adjust


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "one"),
        ("x$(A)y$(B)", "xoneytwo"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$one"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$(A", "$(A"),
        ("$A", "$A"),
        ("$", "$"),
        ("$()", "$()"),
    ],
)
def test_expansion(text: str, expanded: str) -> None:
    assert expand(text, Lookup({"A": "one", "B": "two"})) == expanded


@given(st.text(alphabet="ab$()", max_size=12))
def test_text_without_references_stays(text: str) -> None:
    assert expand(text.replace("$", ""), Lookup({})) == text.replace("$", "")


def test_variables_follow_one_another_and_override_sources() -> None:
    config_map = {"kind": "ConfigMap", "data": {"A": "from map", "B": "b"}}
    env = [{"name": "A", "value": "own"}, {"name": "C", "value": "$(A) $(B) $(HOME_SERVICE_HOST)"}]
    spec = container(
        "main", env=env, envFrom=[{"prefix": "P_", "configMapRef": {"name": "m"}}, {"configMapRef": {"name": "m"}}]
    )
    sources = EnvironmentSources(config_maps={"m": config_map}, services={"HOME_SERVICE_HOST": "10.0.0.1"})
    assert make_environment(pod("web", spec), spec, sources) == {
        "P_A": "from map",
        "P_B": "b",
        "A": "own",
        "B": "b",
        "C": "own b 10.0.0.1",
        "HOME_SERVICE_HOST": "10.0.0.1",
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "gone", "key": "k"}}, 'configmap "gone" not found'),
        ({"secretKeyRef": {"name": "gone", "key": "k"}}, 'secret "gone" not found'),
        ({"configMapKeyRef": {"name": "m", "key": "k"}}, "couldn't find key k in ConfigMap default/m"),
    ],
)
def test_missing_sources(source: dict[str, dict[str, str]], message: str) -> None:
    sources = EnvironmentSources(config_maps={"m": {"kind": "ConfigMap", "data": {}}})
    spec = container("main", env=[{"name": "X", "valueFrom": source}])
    with pytest.raises(EnvironmentFailure) as failure:
        make_environment(pod("web", spec), spec, sources)
    assert str(failure.value) == message
    optional = {kind: {**reference, "optional": True} for kind, reference in source.items()}
    spec = container("main", env=[{"name": "X", "valueFrom": optional}])
    assert make_environment(pod("web", spec), spec, sources) == {}


def test_service_variables() -> None:
    def service(namespace: str, name: str, ip: str) -> dict[str, object]:
        ports = [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]
        return {"metadata": {"namespace": namespace, "name": name}, "spec": {"clusterIP": ip, "ports": ports}}

    services = [
        service("default", "kubernetes", "10.96.0.1"),
        service("shop", "my-db", "10.96.0.7"),
        service("other", "far", "10.96.0.8"),
        service("shop", "headless", "None"),
    ]
    found = service_variables(services, "shop", links=True)
    assert found["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert found["MY_DB_SERVICE_PORT"] == "80"
    assert found["MY_DB_SERVICE_PORT_DNS"] == "53"
    assert found["MY_DB_PORT"] == "tcp://10.96.0.7:80"
    assert found["MY_DB_PORT_53_UDP_PROTO"] == "udp"
    assert not any(key.startswith(("FAR", "HEADLESS")) for key in found)
    assert not any(key.startswith("MY_DB") for key in service_variables(services, "shop", links=False))


def test_fields_of_the_pod() -> None:
    wanted = pod("web")
    wanted["metadata"]["labels"] = {"b": 'say "x"', "a": "1"}
    assert field_value(wanted, "metadata.labels") == 'a="1"\nb="say \\"x\\""'
    assert field_value(wanted, "metadata.labels['a']") == "1"
    assert field_value(wanted, "status.podIPs", pod_ips=["10.0.0.1", "fd00::1"]) == "10.0.0.1,fd00::1"
    with pytest.raises(FieldError, match=r"unsupported fieldPath: spec.hostname"):
        field_value(wanted, "spec.hostname")


@pytest.mark.parametrize(
    ("resource", "divisor", "text"),
    [
        ("limits.cpu", "1", "2"),
        ("limits.cpu", "1m", "1250"),
        ("requests.cpu", "", "1"),
        ("limits.memory", "1Mi", "64"),
        ("limits.ephemeral-storage", "1Gi", "10"),
    ],
)
def test_resources_of_a_container(resource: str, divisor: str, text: str) -> None:
    spec = container("main", resources={"requests": {"cpu": "250m"}, "limits": {"cpu": "1250m", "memory": "64Mi"}})
    selector = {"resource": resource, "divisor": divisor}
    assert resource_value(pod("web", spec), spec, selector, {"ephemeral-storage": "10Gi"}) == text


def test_cgroup_values() -> None:
    spec = container(
        "main", resources={"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}}
    )
    found = linux_resources(pod("web", spec), spec, 10 << 30)
    assert (found["cpu_shares"], found["cpu_period"], found["cpu_quota"]) == (512, 100_000, 100_000)
    assert found["memory_limit_in_bytes"] == 2 << 30
    assert found["oom_score_adj"] == 900
    plain = linux_resources(pod("web"), container("main"), 10 << 30)
    assert (plain["cpu_shares"], plain["cpu_quota"], plain["oom_score_adj"]) == (2, 0, 1000)


def test_quality_of_service() -> None:
    both = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    guaranteed = pod("web", container("main", resources=both))
    assert qos_of(guaranteed) == "Guaranteed"
    assert oom_score_adjust(guaranteed, guaranteed["spec"]["containers"][0], 10 << 30) == -997
    assert qos_of(pod("web", container("main", resources={"requests": {"cpu": "1"}}))) == "Burstable"
    assert qos_of(pod("web")) == "BestEffort"


def test_names_on_the_network() -> None:
    wanted = pod("web", hostname="host", subdomain="sub", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["x", "y"]}])
    assert hostname_and_domain(wanted, "cluster.local") == ("host", "sub.default.svc.cluster.local")
    text = hosts_file(wanted, ["10.0.0.9"], "host", "sub.default.svc.cluster.local")
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert "10.0.0.9\thost.sub.default.svc.cluster.local\thost\n" in text
    assert text.endswith("# Entries added by HostAliases.\n1.2.3.4\tx\ty\n")
    long = pod("n" * 62 + "-x")
    assert hostname_and_domain(long, "cluster.local")[0] == "n" * 62


def test_resolvers() -> None:
    host = parse_resolver("# comment\nnameserver 9.9.9.9\nsearch corp.example. .\noptions ndots:1 rotate\n")
    assert host == Resolver(("9.9.9.9",), ("corp.example",), ("ndots:1", "rotate"))
    dns = ClusterDNS(("10.96.0.10",), "cluster.local")
    own = ("default.svc.cluster.local", "svc.cluster.local", "cluster.local")
    assert pod_resolver(pod("web"), dns, host) == Resolver(("10.96.0.10",), (*own, "corp.example"), ("ndots:5",))
    assert pod_resolver(pod("web", hostNetwork=True), dns, host) == host
    assert pod_resolver(pod("web", dnsPolicy="Default"), dns, host) == host
    config = {"nameservers": ["1.1.1.1"], "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}]}
    none = pod_resolver(pod("web", dnsPolicy="None", dnsConfig=config), dns, host)
    assert none == Resolver(("1.1.1.1",), ("a.b",), ("ndots:2",))


@pytest.mark.parametrize(
    ("text", "resolver"),
    [
        ("", Resolver()),
        ("\t\n\t", Resolver()),
        (" #comment\n#comment", Resolver()),
        ("#comment\nnameserver 1.2.3.4\nsearch", Resolver(("1.2.3.4",))),
        ("\tnameserver \t 1.2.3.4", Resolver(("1.2.3.4",))),
        ("nameserver 1.2.3.4\nnameserver 5.6.7.8", Resolver(("1.2.3.4", "5.6.7.8"))),
        ("nameserver 1.2.3.4 #comment", Resolver(("1.2.3.4",))),
        ("search .", Resolver()),
        ("search foo .  bar", Resolver((), ("foo", "bar"))),
        ("search foo. bar", Resolver((), ("foo", "bar"))),
        ("search foo\nsearch bar", Resolver((), ("bar",))),
        ("#c\nnameserver 1.2.3.4\n#c\nsearch foo\ncomment", Resolver(("1.2.3.4",), ("foo",))),
        ("options ", Resolver()),
        ("options ndots:1 ndots:5 attempts:2", Resolver((), (), ("ndots:5", "attempts:2"))),
        ("options ndots:1 edns0 attempts:2", Resolver((), (), ("ndots:1", "edns0", "attempts:2"))),
        ("options ndots:1 timeout:3 timeout:1\noptions ndots:5", Resolver((), (), ("ndots:5", "timeout:1"))),
    ],
)
def test_the_nodes_resolver_file_is_read_as_upstream_reads_it(text: str, resolver: Resolver) -> None:
    assert parse_resolver(text) == resolver


_ROOM = 2048 - len("default.svc.TEST svc.TEST TEST")
_LINES = "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
_SERVERS = (
    "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is:"
    " 1.1.1.1 2.2.2.2 3.3.3.3"
)


@pytest.mark.parametrize(
    ("host", "config", "messages"),
    [
        (("testdomain",), {}, []),
        (tuple(f"d{number}" for number in range(29)), {}, []),
        (tuple(f"d{number}" for number in range(30)), {}, [_LINES + "OWN " + " ".join(f"d{n}" for n in range(29))]),
        (("A" * 254, "b"), {}, [_LINES + "OWN b"]),
        (("A" * 253, "b"), {}, []),
        (("A" * 220, *(f"{n}" + "B" * 219 for n in range(7)), "b" * (_ROOM - 8 * 221 - 1)), {}, []),
        (("A" * 220, *(f"{n}" + "B" * 219 for n in range(7)), "b" * (_ROOM - 8 * 221)), {}, [_LINES + "OWN REST"]),
        (("c", "d"), {"nameservers": ["1.1.1.1", "2.2.2.2"]}, []),
        (("c",), {"nameservers": ["2.2.2.2", "3.3.3.3", "4.4.4.4"]}, [_SERVERS]),
    ],
)
def test_what_a_resolver_file_cannot_hold_is_told(host: Any, config: Any, messages: list[str]) -> None:
    dns = ClusterDNS(("1.1.1.1",), "TEST")
    found = complaints(pod("web", dnsConfig=config), dns, Resolver((), host))
    words = {"OWN": "default.svc.TEST svc.TEST TEST", "REST": " ".join(host[:-1])}
    expected = [" ".join(words.get(word, word) for word in message.split(" ")) for message in messages]
    assert found == [("DNSConfigForming", message) for message in expected]


def test_a_pod_that_has_no_cluster_dns_is_told() -> None:
    text = (
        'kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy.'
        ' Falling back to "Default" policy.'
    )
    found = complaints(pod("web"), ClusterDNS(), Resolver())
    assert found == [("MissingClusterDNS", f'pod: "web_default(uid-web)". {text}')]
    for policy in ("Default", "None"):
        assert complaints(pod("web", dnsPolicy=policy), ClusterDNS(), Resolver()) == []
    assert complaints(pod("web", hostNetwork=True), ClusterDNS(), Resolver()) == []


@pytest.mark.parametrize(
    ("searches", "complaint"),
    [
        ("", ""),
        (" ".join(f"d{n}" for n in range(29)), ""),
        (
            " ".join(f"d{n}" for n in range(30)),
            "Resolv.conf file 'FILE' contains search line consisting of more than 29 domains!",
        ),
        ("B" * 254, 'Resolv.conf file "FILE" contains a search path which length is more than allowed 253 chars!'),
        (
            " ".join(["B" * 250] * 9),
            "Resolv.conf file 'FILE' contains search line which length is more than allowed 2048 chars!",
        ),
    ],
)
def test_limits_of_the_nodes_own_file(tmp_path: Path, searches: str, complaint: str) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(f"search {searches}\n")
    assert host_complaint(ClusterDNS(resolver_file=str(file))) == complaint.replace("FILE", str(file))
    file.unlink()
    assert host_complaint(ClusterDNS(resolver_file=str(file))) == f"open {file}: no such file or directory"
    assert host_complaint(ClusterDNS(resolver_file="")) == ""


def test_security_context() -> None:
    spec = container(
        "main", securityContext={"runAsUser": 5, "capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": False}
    )
    wanted = pod(
        "web", spec, securityContext={"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4]}
    )
    found = container_security(wanted, spec, ImageUser(), HostSecurity())
    assert found["run_as_user"] == {"value": 5}
    assert found["run_as_group"] == {"value": 2}
    assert found["supplemental_groups"] == [3, 4]
    assert found["capabilities"]["drop_capabilities"] == ["ALL"]
    assert found["no_new_privs"] is True
    assert found["seccomp"] == {"profile_type": 1}
    named = container_security(pod("web"), container("main"), ImageUser(None, "www"), HostSecurity())
    assert named["run_as_username"] == "www"


def test_root_is_refused_where_it_must_not_be() -> None:
    spec = container("main", securityContext={"runAsNonRoot": True})
    wanted = pod("web", spec)
    with pytest.raises(SecurityError, match=r"^container has runAsNonRoot and image will run as root \(pod: "):
        verify_non_root(wanted, spec, ImageUser(0))
    with pytest.raises(SecurityError, match=r"image has non-numeric user \(www\)"):
        verify_non_root(wanted, spec, ImageUser(None, "www"))
    verify_non_root(wanted, spec, ImageUser(1000))


def test_a_sandbox_in_the_runtimes_words() -> None:
    ports = [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]
    sysctls = [{"name": "net/ipv4/ip_unprivileged_port_start", "value": "0"}]
    wanted = pod("web", container("main", ports=ports), securityContext={"sysctls": sysctls}, hostPID=True)
    config = sandbox_config(wanted, 1, hostname="web", resolver=Resolver(), log_root="/logs", cgroup_parent="/k/p")
    assert config["log_directory"] == "/logs/default_web_uid-web"
    assert config["port_mappings"] == [{"protocol": 0, "container_port": 80, "host_port": 8080, "host_ip": ""}]
    assert config["linux"]["sysctls"] == {"net.ipv4.ip_unprivileged_port_start": "0"}
    assert config["linux"]["security_context"]["namespace_options"] == {"network": 0, "pid": 2, "ipc": 0}
    assert config["labels"]["io.kubernetes.pod.name"] == "web"
    shared = sandbox_config(
        pod("web", hostNetwork=True), 0, hostname="web", resolver=Resolver(), log_root="/l", cgroup_parent=""
    )
    assert "hostname" not in shared


def test_apparmor_is_what_the_pod_asks_for_and_else_the_runtimes_choice() -> None:
    """A runtime on a machine without apparmor_parser refuses containers for which a profile is named."""
    host = HostSecurity(apparmor=True)

    def profile(of_pod: dict[str, Any], own: dict[str, Any]) -> str | None:
        made = pod("web", container("main", securityContext=own), securityContext=of_pod)
        security = container_security(made, made["spec"]["containers"][0], ImageUser(), host)
        assert ("apparmor" in security) == ("apparmor_profile" in security)
        name: str | None = security.get("apparmor_profile")
        return name

    default, none = {"appArmorProfile": {"type": "RuntimeDefault"}}, {"appArmorProfile": {"type": "Unconfined"}}
    assert profile({}, {}) is None
    assert profile(default, {}) == "runtime/default"
    assert profile(default, none) == "unconfined"
    assert profile({}, {"appArmorProfile": {"type": "Localhost", "localhostProfile": "mine"}}) == "localhost/mine"
    assert profile(default, {"privileged": True}) is None
