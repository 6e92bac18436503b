"""Every command answers bad input with one line on stderr and status 1 or 2, and never with a traceback."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tiphys.cli.main import COMMANDS, COMPONENTS

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
"""
DURATION = {
    "kube-apiserver": "request-timeout",
    "kube-controller-manager": "leader-elect-lease-duration",
    "kube-scheduler": "leader-elect-renew-deadline",
    "kube-proxy": "iptables-sync-period",
    "etcd": "watch-progress-notify-interval",
    "etcdctl": "dial-timeout",
    "metrics-server": "metric-resolution",
    "prometheus-adapter": "metrics-relist-interval",
    "cluster-autoscaler": "scan-interval",
    "metrics-relay": "authentication-token-webhook-cache-ttl",
}
WITH_KUBECONFIG = (
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "dns",
    "csi-local",
    "metrics-server",
    "prometheus-adapter",
    "metrics-relay",
    "csi-cloud",
    "cluster-autoscaler",
    "pod-network",
    "load-balancer",
)
WITH_FILE = {
    "kube-scheduler": "KubeSchedulerConfiguration",
    "kubelet": "KubeletConfiguration",
    "kube-proxy": "KubeProxyConfiguration",
}
APISERVER_FILES = (
    *("authentication-config", "authorization-config", "audit-policy-file", "admission-control-config-file"),
    *("encryption-provider-config", "authentication-token-webhook-config-file"),
)
NEEDED = {
    "logs": ["kubelet"],
    "image": ["list"],
    "node": ["list"],
    "addon": ["list"],
    "kubeconfig": ["user"],
    "virtual-address": ["--address=192.0.2.9/24", "--node-address=127.0.0.1", "--kubeconfig={folder}/kubeconfig"],
    "install": ["--systemd"],
    "backup": ["{folder}/b.tar.gz"],
    "restore": ["{folder}/b.tar.gz"],
    "pod-network": ["--cluster-cidr=10.244.0.0/16", "--cni-conf-dir={folder}/folder"],
    "load-balancer": ["--node-ip=127.0.0.1"],
    "dns": ["--address=127.0.0.1"],
    "csi-local": ["--volumes={folder}/volumes", "--kubelet-dir={folder}/kubelet"],
    "metrics-server": ["--tls-cert-file={folder}/cert", "--tls-private-key-file={folder}/key"],
    "prometheus-adapter": [
        "--config={folder}/rules",
        "--tls-cert-file={folder}/cert",
        "--tls-private-key-file={folder}/key",
    ],
    "csi-cloud": ["--part=node"],
    "cluster-autoscaler": ["--cloud-provider=local"],
    "kube-apiserver": ["--data-dir={folder}/data"],
}


@dataclass(frozen=True)
class Case:
    name: str
    words: tuple[str, ...]
    says: str
    """What the line on stderr must name."""


def _with(command: str, *words: str) -> tuple[str, ...]:
    return (command, *NEEDED.get(command, ()), *words)


def cases() -> Iterator[Case]:
    for command in (*COMMANDS, *COMPONENTS):
        if command != "test":  # whose flags are pytest's
            kubeconfig = ["--kubeconfig={folder}/kubeconfig"] if command in WITH_KUBECONFIG else []
            first = ["get"] if command == "etcdctl" else []
            yield Case(f"unknown flag: {command}", _with(command, *first, *kubeconfig, "--nonsense"), "nonsense")
    for command, flag in DURATION.items():
        kubeconfig = ["--kubeconfig={folder}/kubeconfig"] if command in WITH_KUBECONFIG else []
        more = ["get", "x"] if command == "etcdctl" else []
        for text in ("", "soon", "1.5.5s"):
            yield Case(f"duration {text!r}: {command}", _with(command, *kubeconfig, f"--{flag}={text}", *more), "")
    for command in WITH_KUBECONFIG:
        yield Case(f"no kubeconfig: {command}", _with(command, "--kubeconfig={folder}/nope"), "nope")
        for name in ("empty", "list", "binary", "broken", "deep", "contextless", "keyless", "folder"):
            words = _with(command, f"--kubeconfig={{folder}}/{name}")
            yield Case(f"kubeconfig {name}: {command}", words, name)
    for command in WITH_FILE:
        base = _with(command, "--kubeconfig={folder}/kubeconfig")
        for name in ("nope", "empty", "list", "binary", "broken", "deep", "otherkind", "folder", f"{command}-version"):
            yield Case(f"config {name}: {command}", (*base, f"--config={{folder}}/{name}"), name)
        yield Case(f"config field: {command}", (*base, f"--config={{folder}}/{command}-field"), "nonsense")
        yield Case(f"config duration: {command}", (*base, f"--config={{folder}}/{command}-duration"), "time: ")
    for name in ("nope", "list", "binary", "broken", "deep", "otherkind", "folder"):
        words = ("prometheus-adapter", "--kubeconfig={folder}/kubeconfig", f"--config={{folder}}/{name}")
        yield Case(f"config {name}: prometheus-adapter", words, name)
    for flag in APISERVER_FILES:
        for name in ("nope", "empty", "list", "binary", "broken", "deep", "otherkind", "folder"):
            own = (f"--data-dir={{folder}}/{flag}-{name}", "--secure-port={port}")
            words = ("kube-apiserver", *own, f"--{flag}={{folder}}/{name}")
            yield Case(f"config {name}: kube-apiserver {flag}", words, name)
    ports = {  # not kube-proxy, which tries for its ports again
        "kube-apiserver": _with("kube-apiserver", "--secure-port={port}", "--bind-address=127.0.0.1"),
        "kube-controller-manager": (
            "kube-controller-manager",
            "--kubeconfig={folder}/kubeconfig",
            "--secure-port={port}",
        ),
        "kube-scheduler": ("kube-scheduler", "--kubeconfig={folder}/kubeconfig", "--secure-port={port}"),
        "etcd": ("etcd", "--data-dir={folder}/etcd", "--listen-client-urls=http://127.0.0.1:{port}"),
        "metrics-server": _with("metrics-server", "--kubeconfig={folder}/kubeconfig", "--secure-port={port}"),
        "prometheus-adapter": _with("prometheus-adapter", "--kubeconfig={folder}/kubeconfig", "--secure-port={port}"),
        "dns": _with("dns", "--kubeconfig={folder}/kubeconfig", "--healthz-bind-address=127.0.0.1:{port}"),
        "kubelet": ("kubelet", "--kubeconfig={folder}/kubeconfig", "--root-dir={folder}/kubelet", "--port={port}"),
    }
    for command, words in ports.items():
        yield Case(f"taken port: {command}", words, "{port}")


CASES = list(cases())


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], list[dict[str, object]]]:
    folder = tmp_path_factory.mktemp("badinput")
    files = {
        "kubeconfig": KUBECONFIG,
        "empty": "",
        "list": "- a\n- b\n",
        "broken": "a: [b\n",
        "deep": "[" * 100_000,
        "contextless": KUBECONFIG.replace("current-context: c", "current-context: nope"),
        "keyless": KUBECONFIG.replace("cluster: c}", "cluster: c, user: c}").replace("http:", "https:")
        + 'users: [{name: c, user: {client-certificate: "missing.crt", client-key: "missing.key"}}]\n',
        "rules": "rules: []\n",
        "otherkind": "kind: Pod\napiVersion: v1\n",
    }
    for command, kind in WITH_FILE.items():
        files[f"{command}-version"] = f"kind: {kind}\napiVersion: example.com/v9\n"
        group = {"kubelet": "kubelet.config.k8s.io/v1beta1", "kube-proxy": "kubeproxy.config.k8s.io/v1alpha1"}
        version = group.get(command, "kubescheduler.config.k8s.io/v1")
        files[f"{command}-field"] = f"kind: {kind}\napiVersion: {version}\nnonsense: 1\n"
        duration = {"kubelet": "imageMinimumGCAge: ''", "kube-proxy": "nftables: {syncPeriod: ''}"}
        field = duration.get(command, "leaderElection: {leaseDuration: ''}")
        files[f"{command}-duration"] = f"kind: {kind}\napiVersion: {version}\n{field}\n"
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "binary").write_bytes(b"\xff\xfe\x00\x01")
    (folder / "folder").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        values = {"folder": str(folder), "port": str(taken.getsockname()[1])}
        words = [[word.format(**values) for word in case.words] for case in CASES]
        process = subprocess.run(
            [sys.executable, "-m", "tests.cli.badinput"],
            input=json.dumps(words),
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            check=True,
        )
    return values, json.loads(process.stdout)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_bad_input_gets_one_line(number: int, answers: tuple[dict[str, str], list[dict[str, object]]]) -> None:
    values, results = answers
    result, says = results[number], CASES[number].says.format(**values)
    said = str(result["stderr"])
    assert "Traceback" not in said, said
    assert result["status"] in (1, 2), result
    # But for what is logged: on a busy machine the watchdog of the event loop says where it was held.
    lines = [line for line in said.splitlines() if line and not line.startswith(("I", "W", "  "))]
    assert len(lines) == 1, said
    assert says in lines[0]
