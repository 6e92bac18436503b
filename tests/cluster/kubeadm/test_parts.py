"""Smaller parts: tokens, uploaded certificates, the kubelet's flags, checks, what is said of a failure."""

import asyncio
import base64
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cluster.kubeadm.test_files import CONFIGURATION, context, run
from tiphys.cluster.kubeadm import copycerts, kubeletfiles, kubeletservice, tokens, workflow
from tiphys.cluster.kubeadm.failures import KubeadmError, PreflightError
from tiphys.cluster.kubeadm.layout import HostRoot
from tiphys.cluster.kubeadm.phases.certs import CERTS
from tiphys.cluster.kubeadm.phases.init import INIT
from tiphys.cluster.kubeadm.phases.mark import marked
from tiphys.cluster.kubeadm.phases.preflight import continues
from tiphys.cluster.kubeadm.phases.staticpods import CONTROL_PLANE
from tiphys.cluster.kubeadm.phases.wait import targets
from tiphys.cluster.kubeadm.preflight import checks, proxies
from tiphys.cluster.kubeadm.preflight.run import run_checks

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN = "abcdef.0123456789abcdef"


def test_the_phases_are_upstreams_in_upstreams_order():
    names = [phase.name for phase in INIT]
    order = [
        "preflight",
        "certs",
        "kubeconfig",
        "etcd",
        "control-plane",
        "kubelet-start",
        "wait-control-plane",
        "upload-config",
        "upload-certs",
        "mark-control-plane",
        "bootstrap-token",
        "kubelet-finalize",
        "addon",
        "show-join-command",
    ]
    assert names == [name for name in order if name in names]


def test_a_token_survives_its_secret():
    made = tokens.BootstrapToken(
        TOKEN, "for a test", NOW + timedelta(hours=3), ("authentication",), ("system:bootstrappers:a",)
    )
    secret = made.secret()
    assert secret["metadata"] == {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}
    assert tokens.from_secret(secret) == made
    assert tokens.time_left(made, NOW) == "3h"
    assert tokens.time_left(made, NOW + timedelta(hours=4)) == "<invalid>"
    assert tokens.from_secret({"metadata": {"name": "other"}, "data": secret["data"]}) is None


def test_a_lifetime_of_zero_is_for_ever():
    entry = {"token": TOKEN, "ttl": "0s", "usages": [], "groups": []}
    assert tokens.from_document(entry, NOW).expires is None
    assert tokens.from_document({**entry, "ttl": "1h"}, NOW).expires == NOW + timedelta(hours=1)


def test_certificates_travel_encrypted_and_arrive_with_their_modes(tmp_path: Path):
    here = context(tmp_path / "a")
    run(here, CERTS)
    key = copycerts.new_key()
    data = copycerts.encrypted(here.configuration, here.places, key)
    assert sorted(data) == sorted(
        [
            "ca.crt",
            "ca.key",
            "etcd-ca.crt",
            "etcd-ca.key",
            "front-proxy-ca.crt",
            "front-proxy-ca.key",
            "sa.key",
            "sa.pub",
        ]
    )
    assert b"PRIVATE" not in b"".join(data.values())
    secret = copycerts.secret(data, {"metadata": {"name": "bootstrap-token-abcdef", "uid": "u"}})
    there = HostRoot(tmp_path / "b")
    with pytest.raises(KubeadmError, match="not the key that the certificates were uploaded with"):
        copycerts.store(secret, here.configuration, there, copycerts.new_key())
    assert not (tmp_path / "b").exists()
    copycerts.store(secret, here.configuration, there, key)
    for name in ("ca.crt", "ca.key", "etcd/ca.key", "sa.pub"):
        path = f"etc/kubernetes/pki/{name}"
        assert (tmp_path / "b" / path).read_bytes() == (tmp_path / "a" / path).read_bytes()
    assert (tmp_path / "b/etc/kubernetes/pki/ca.key").stat().st_mode & 0o777 == 0o600


def test_a_secret_without_a_certificate_names_it(tmp_path: Path):
    made = context(tmp_path)
    key = copycerts.new_key()
    secret = {"data": {"ca.crt": base64.b64encode(copycerts.encrypt(b"x", key)).decode()}}
    with pytest.raises(KubeadmError, match=r"required certificate or key - name: ca\.key"):
        copycerts.store(secret, made.configuration, made.places, key)


def test_the_kubelet_gets_the_nodes_name_taints_and_the_users_flags():
    registration = {
        "name": "w1",
        "taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}, {"key": "c", "effect": "NoExecute"}],
        "kubeletExtraArgs": [{"name": "v", "value": "4"}, {"name": "hostname-override", "value": "other"}],
    }
    assert kubeletfiles.node_flags(registration, taints=True) == [
        "--register-with-taints=a=b:NoSchedule,c:NoExecute",
        "--v=4",
        "--hostname-override=other",
    ]


def test_the_environment_files_words_reach_the_kubelet(tmp_path: Path):
    places = HostRoot(tmp_path)
    file = tmp_path / "var/lib/kubelet/kubeadm-flags.env"
    file.parent.mkdir(parents=True)
    file.write_text('KUBELET_KUBEADM_ARGS="--hostname-override=cp1 --v=2"\n')
    assert kubeletservice.flags(places)[-2:] == ["--hostname-override=cp1", "--v=2"]
    assert kubeletservice.flags(places)[1] == f"--kubeconfig={tmp_path}/etc/kubernetes/kubelet.conf"


def test_a_node_is_marked_once_and_keeps_what_it_has():
    taint = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
    other = {"key": "mine", "effect": "NoExecute", "value": "x"}
    node = {"metadata": {"labels": {"a": "b"}}, "spec": {"taints": [other]}}
    once = marked(node, [taint])
    assert once["spec"]["taints"] == [taint, other]
    assert once["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] == ""
    assert marked(once, [taint]) == once


def look(check: checks.Check) -> checks.Findings:
    return asyncio.run(check.look())


def test_a_check_that_is_ignored_warns_and_another_ends_the_command(tmp_path: Path):
    said: list[str] = []
    file = tmp_path / "x"
    file.write_text("other")
    wrong = checks.file_available(HostRoot(tmp_path), "/x", b"wanted")
    assert wrong.name == "FileAvailable--x"
    with pytest.raises(PreflightError, match="preflight checks failed"):
        asyncio.run(run_checks([wrong], frozenset(), said.append))
    assert "[ERROR FileAvailable--x]: /x already exists; it is of another configuration: run `tiphys reset`" in said[0]
    asyncio.run(run_checks([wrong], frozenset(["fileavailable--x"]), said.append))
    assert said[-1].startswith("\t[WARNING FileAvailable--x]")
    asyncio.run(run_checks([wrong], frozenset(["all"]), said.append))


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as taken:
        number = taken.getsockname()[1]
        assert look(checks.port(number)).errors[0].startswith(f"Port {number} is in use; ")
        assert look(checks.port(number, expected=True)).errors == []
    assert look(checks.port(number)).errors == []


def test_a_runtime_that_does_not_answer_is_named_with_the_remedy(tmp_path: Path):
    (error,) = look(checks.runtime(f"unix://{tmp_path}/none.sock")).errors
    assert error.startswith("could not connect to the container runtime at unix:")
    assert "--cri-socket" in error


def test_a_proxy_warns_unless_the_address_is_exempt():
    environment = {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a, 10.0.0.1"}
    assert look(checks.proxy("10.0.0.1", environment)).warnings == []
    assert 'uses proxy "http://p:1"' in look(checks.proxy("10.0.0.2", environment)).warnings[0]


@pytest.mark.parametrize(
    ("exempt", "host", "direct"),
    [
        ("", "10.0.0.2", False),
        ("*", "10.0.0.2", True),
        ("10.0.0.0/8", "10.0.0.2", True),
        ("10.0.0.0/8,192.0.2.1", "192.0.2.2", False),
        ("example.org", "a.example.org", True),
        (".example.org", "example.org", False),
        ("example.org:443", "example.org", True),
        ("fd00::/8", "fd00::1", True),
        ("rg", "example.org", False),
        ("", "127.0.0.1", True),
        ("", "localhost", True),
    ],
)
def test_what_goes_by_a_proxy(exempt: str, host: str, direct: bool):
    environment = {"HTTPS_PROXY": "http://p:1", "NO_PROXY": exempt}
    assert proxies.proxy_for(host, environment) == ("" if direct else "http://p:1")
    assert proxies.proxy_for(host, {"NO_PROXY": exempt}) == ""


def test_ranges_that_a_proxy_would_be_asked_for():
    environment = {"https_proxy": "http://p:1", "no_proxy": "10.96.0.0/12"}
    assert look(checks.proxy_range("10.96.0.0/12", environment)).warnings == []
    (warning,) = look(checks.proxy_range("10.244.0.0/16", environment)).warnings
    assert warning.startswith('connection to "10.244.0.0/16" uses proxy "http://p:1"')


def test_a_firewall_that_runs_is_warned_of():
    (warning,) = look(checks.firewall([6443, 10250], lambda name: name == "firewalld")).warnings
    assert warning.startswith("firewalld is active, please ensure ports [6443 10250] are open")
    assert look(checks.firewall([6443], lambda name: False)).warnings == []


@pytest.mark.parametrize(
    ("kubelet", "control_plane", "problem"),
    [
        ("v1.36.2", "v1.36.0", ""),
        ("v1.33.0", "v1.36.0", ""),
        ("v1.36.0", "", ""),
        ("v1.32.9", "v1.36.0", "is lower than kubeadm can support"),
        ("v1.37.0", "v1.36.0", "the kubelet version is higher than the control plane version"),
        ("", "v1.36.0", "couldn't get kubelet version"),
    ],
)
def test_kubelets_that_fit(kubelet: str, control_plane: str, problem: str):
    errors = look(checks.kubelet_version(lambda: kubelet, control_plane)).errors
    assert [problem in error for error in errors] == ([True] if problem else [])


def test_a_kubelet_that_cannot_be_asked():
    def missing() -> str:
        raise FileNotFoundError(2, "No such file", "kubelet")

    (error,) = look(checks.kubelet_version(missing, "v1.36.0")).errors
    assert "couldn't get kubelet version" in error


def test_an_etcd_elsewhere_has_to_answer_and_be_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answers = {"http://a:1/version": {"etcdserver": "3.3.27"}, "http://b:1/version": {"etcdserver": "3.6.8"}}

    def get_json(url: str, context: object) -> dict[str, str]:
        if url not in answers:
            raise ConnectionRefusedError(111, "Connection refused")
        return answers[url]

    monkeypatch.setattr("tiphys.cluster.kubeadm.health.get_json", get_json)
    external = {"endpoints": ["http://a:1", "http://b:1/", "http://c:1"]}
    old, silent = look(checks.external_etcd(external, HostRoot(tmp_path))).errors
    assert old == "only external etcd version >= 3.4 is supported. Current version: 3.3.27"
    assert "http://c:1/version does not say its version: " in silent
    (error,) = look(checks.external_etcd({**external, "caFile": "/ca.crt"}, HostRoot(tmp_path))).errors
    assert error.startswith("couldn't load external etcd's certificates")
    (missing,) = [look(c) for c in checks.files_exist("X", HostRoot(tmp_path), ["/ca.crt"])]
    assert missing.errors == ["/ca.crt doesn't exist; put it there, or name another file"]


def test_what_an_earlier_run_of_this_configuration_left_is_continued(tmp_path: Path):
    made = context(tmp_path)
    assert not continues(made)
    run(made, CERTS, CONTROL_PLANE)
    assert continues(made)
    assert not continues(context(tmp_path, CONFIGURATION.replace("10.9.9.9", "10.8.8.8\n").replace("10.244", "10.245")
                                 .replace("10.5.6.7", "10.5.6.8")))  # fmt: skip


def test_health_is_asked_where_the_users_flags_put_it(tmp_path: Path):
    extra = "scheduler: {extraArgs: [{name: bind-address, value: 0.0.0.0}, {name: secure-port, value: '7000'}]}\n"
    made = context(tmp_path, CONFIGURATION + extra)
    assert [target.url for target in targets(made.configuration)] == [
        "https://10.5.6.7:6443/livez",
        "https://127.0.0.1:10257/healthz",
        "https://127.0.0.1:7000/livez",
    ]


def test_a_dry_run_writes_below_its_own_folder_and_asks_nobody(tmp_path: Path):
    made = context(tmp_path)
    made.dry_run = True
    said: list[str] = []
    made.say = said.append
    asyncio.run(workflow.run(INIT, made, skipped=["preflight"]))
    text = "\n".join(said)
    assert '[dryrun] Would create or update ConfigMap "kubeadm-config" in namespace "kube-system"' in text
    assert "Would start the kubelet" in text
    assert TOKEN not in text
    assert "token-secret: (hidden)" in text
    assert (tmp_path / "var/lib/kubelet/config.yaml").exists()
    assert os.listdir(tmp_path) == ["etc", "var"] or sorted(os.listdir(tmp_path)) == ["etc", "var"]
