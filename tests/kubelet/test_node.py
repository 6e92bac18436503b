"""Smaller parts: admission, logs, garbage, images' names, the command line, static pods."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.kubelet.world import container, pod
from tiphys.api.patch.requests import patch_object
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind
from tiphys.client.delegated import user_of_certificate
from tiphys.client.rest import STRATEGIC_MERGE
from tiphys.kubelet import config
from tiphys.kubelet.command import configuration, parser
from tiphys.kubelet.configz import describe
from tiphys.kubelet.container.images import (
    default_policy,
)
from tiphys.kubelet.container.log_rotation import to_remove
from tiphys.kubelet.container.logs import LogOptions, parse_line, read_last_lines, read_log
from tiphys.kubelet.node.agent import _patch
from tiphys.kubelet.node.gc import dead_containers, dead_sandboxes
from tiphys.kubelet.pod.admission import admit
from tiphys.kubelet.runtime.service import Container, ContainerState, Sandbox
from tiphys.kubelet.server.auth import subresources
from tiphys.kubelet.server.container_logs import LogRequestError, choose_run, options_of
from tiphys.kubelet.sources.static import ManifestError, StaticPods, is_mirror_of, mirror_of, read_manifest
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import CannotStart, ConfigError
from tiphys.runtime.flags import FlagError

LOG = b"""2026-01-01T00:00:01.000000001Z stdout F one
2026-01-01T00:00:02.000000002Z stderr F two
2026-01-01T00:00:03.000000003Z stdout P thr
2026-01-01T00:00:03.000000004Z stdout F ee
2026-01-01T00:00:04.000000004Z stdout F four
"""


def node(**spec: Any) -> dict[str, Any]:
    allocatable = {"cpu": "2", "memory": "1Gi", "pods": "3"}
    labels = {"zone": "a", "number": "5"}
    return {"metadata": {"name": "node-1", "labels": labels}, "spec": spec, "status": {"allocatable": allocatable}}


def affinity(key: str, operator: str, *values: str) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


def test_admission() -> None:
    def reason(wanted: dict[str, Any], *others: dict[str, Any], **spec: Any) -> str:
        found = admit(wanted, node(**spec), others, apparmor=False)
        return found.reason if found else ""

    assert reason(pod("web")) == ""
    big = container("main", resources={"requests": {"memory": "2Gi"}})
    assert reason(pod("web", big)) == "OutOfmemory"
    assert reason(pod("web"), *[pod(str(n)) for n in range(3)]) == "OutOfpods"
    gpu = pod("web", container("main", resources={"requests": {"example.com/gpu": "1"}}))
    assert reason(gpu) == ""  # resources that no node has are the cluster's own affair
    offered = node()
    offered["status"]["allocatable"]["example.com/gpu"] = "0"
    refused = admit(gpu, offered, (), apparmor=False)
    assert refused is not None
    assert refused.reason == "OutOfexample.com/gpu"
    mapping = {"containerName": "main", "resourceName": "example.com/gpu", "requestName": "container-0-request-0"}
    gpu["status"] = {"extendedResourceClaimStatus": {"resourceClaimName": "c", "requestMappings": [mapping]}}
    assert admit(gpu, offered, (), apparmor=False) is None  # a device of a claim
    assert reason(pod("web", nodeSelector={"zone": "b"})) == "NodeAffinity"
    assert reason(pod("web", affinity=affinity("zone", "NotIn", "b"))) == ""
    assert reason(pod("web", affinity=affinity("number", "Gt", "7"))) == "NodeAffinity"
    assert reason(pod("web", nodeName="other")) == "NodeName"
    port = container("main", ports=[{"containerPort": 1, "hostPort": 80}])
    assert reason(pod("web", port), pod("old", port)) == "NodePorts"
    taint = {"key": "k", "value": "v", "effect": "NoExecute"}
    assert reason(pod("web"), taints=[taint]) == "TaintToleration"
    assert reason(pod("web", tolerations=[{"operator": "Exists"}]), taints=[taint]) == ""
    assert reason(pod("web"), taints=[{**taint, "effect": "NoSchedule"}]) == ""
    sysctls = {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}
    assert reason(pod("web", securityContext=sysctls)) == "SysctlForbidden"
    unknown = container("main", resources={"requests": {"example.com/gpu": "1"}})
    assert reason(pod("web", unknown)) == ""


def read(path: Path, options: LogOptions) -> bytes:
    parts: list[bytes] = []
    asyncio.run(read_log(path, options, parts.append, SystemClock(), lambda: False))
    return b"".join(parts)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (LogOptions(), b"one\ntwo\nthree\nfour\n"),
        (LogOptions(tail=1), b"four\n"),
        (LogOptions(tail=0), b""),
        (LogOptions(tail=100), b"one\ntwo\nthree\nfour\n"),
        (LogOptions(limit=5), b"one\nt"),
        (LogOptions(since=1767225602.5), b"three\nfour\n"),
        (LogOptions(stream="Stderr"), b"two\n"),
        (LogOptions(tail=1, timestamps=True), b"2026-01-01T00:00:04.000000004Z four\n"),
        (LogOptions(follow=True), b"one\ntwo\nthree\nfour\n"),
    ],
)
def test_logs(tmp_path: Path, options: LogOptions, text: bytes) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(LOG)
    assert read(path, options) == text


def test_following_goes_on_over_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(LOG)
    parts: list[bytes] = []
    alive = [True]

    class Stepping(SystemClock):
        """Each wait is one step of the story."""

        steps = 0

        async def sleep(self, seconds: float) -> None:
            self.steps += 1
            if self.steps == 1:
                with path.open("ab") as file:
                    file.write(b"2026-01-01T00:00:05Z stdout F five\n")
            elif self.steps == 2:
                path.rename(tmp_path / "0.log.old")
                path.write_bytes(b"2026-01-01T00:00:06Z stdout F six\n")
            else:
                alive[0] = False

    asyncio.run(read_log(path, LogOptions(follow=True, tail=1), parts.append, Stepping(), lambda: alive[0]))
    assert b"".join(parts) == b"four\nfive\nsix\n"


def test_the_end_of_a_log_as_a_message(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(LOG)
    assert read_last_lines(path, 2, 100) == "ee\nfour\n"
    assert read_last_lines(path, 80, 5) == "four\n"
    assert parse_line(b"nonsense") is None


def test_log_requests() -> None:
    options, previous = options_of({"follow": ["true"], "tailLines": ["5"], "previous": ["1"]}, 100.0)
    assert (options.follow, options.tail, previous) == (True, 5, True)
    assert options_of({"sinceSeconds": ["10"]}, 100.0)[0].since == 90.0
    for query in (
        {"tailLines": ["-1"]},
        {"limitBytes": ["0"]},
        {"sinceSeconds": ["1"], "sinceTime": ["2026-01-01T00:00:00Z"]},
    ):
        with pytest.raises(LogRequestError, match="Invalid request"):
            options_of(query, 0.0)
    waiting = {"containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "ErrImagePull"}}}]}
    message = 'container "main" in pod "web" is waiting to start: image can\'t be pulled'
    with pytest.raises(LogRequestError, match=message):
        choose_run(waiting, pod("web"), "main", previous=False)
    running = {"containerStatuses": [{"name": "main", "state": {"running": {}}, "containerID": "containerd://x"}]}
    assert choose_run(running, pod("web"), "main", previous=False) == "x"
    with pytest.raises(LogRequestError, match="previous terminated container"):
        choose_run(running, pod("web"), "main", previous=True)


def dead(identity: str, uid: str, created: float, state: ContainerState = ContainerState.EXITED) -> Container:
    labels = {"io.kubernetes.pod.uid": uid, "io.kubernetes.container.name": "main"}
    return Container(identity, f"s-{uid}", "main", 0, state, created, labels=labels)


def test_what_is_garbage() -> None:
    containers = [dead(str(n), "a", float(n)) for n in range(4)] + [dead("b", "b", 1.0)]
    containers.append(dead("run", "a", 9.0, ContainerState.RUNNING))
    assert sorted(dead_containers(containers, "b".__eq__)) == ["0", "1", "b"]

    def sandbox(identity: str, uid: str, created: float, *, ready: bool) -> Sandbox:
        return Sandbox(identity, "n", "ns", uid, 0, ready, created)

    sandboxes = [
        sandbox("old", "a", 1, ready=False),
        sandbox("s-a", "a", 2, ready=True),
        sandbox("s-c", "c", 1, ready=False),
    ]
    assert dead_sandboxes(sandboxes, containers, "".__eq__) == ["old"]
    assert dead_sandboxes(sandboxes, containers, "c".__eq__) == ["old", "s-c"]
    assert to_remove(["0.log.2", "0.log.1.gz", "0.log.3"], 2) == ["0.log.1.gz"]


def test_names_of_images() -> None:
    assert default_policy("busybox") == "Always"
    assert default_policy("busybox:1") == "IfNotPresent"


HEAD = "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\n"


def test_flags_win_over_the_file_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"{HEAD}maxPods: 50\nclusterDNS: [10.0.0.10]\nimageMinimumGCAge: 5m\n"
        "containerLogMaxSize: 5Mi\nauthentication: {anonymous: {enabled: true}}\n"
        "containerRuntimeEndpoint: unix:///run/x.sock\nsystemReserved: {cpu: 100m}\n"
    )
    flags = [
        "--kubeconfig=/k",
        f"--config={file}",
        "--max-pods=60",
        "--hostname-override",
        "n1",
        "--register-node=false",
    ]
    given = parser().parse(flags)
    found, socket = configuration(given)
    assert (found.node_name, found.max_pods, found.cluster_dns) == ("n1", 60, ("10.0.0.10",))
    assert (found.image_minimum_age, found.container_log_max_size, found.anonymous) == (300.0, 5 << 20, True)
    assert (found.register_node, found.reserved, socket, given.kubeconfig) == (
        False,
        {"cpu": "100m"},
        "/run/x.sock",
        "/k",
    )
    with pytest.raises(FlagError, match="unrecognized feature gate: A"):
        parser().parse(["--kubeconfig=/k", "--feature-gates=A=true"])
    file.write_text(f"{HEAD}tracing: {{endpoint: x}}\n")
    with pytest.raises(ConfigError, match="upstream's field tracing is not supported"):
        configuration(parser().parse(["--kubeconfig=/k", f"--config={file}"]))


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("maxPods: many", "maxPods: 'many' is not a whole number"),
        ("maxPods: true", "maxPods: True is not a whole number"),
        ("registerNode: 1", "registerNode: 1 is not true or false"),
        ("imageMinimumGCAge: ''", 'imageMinimumGCAge: time: invalid duration ""'),
        ("containerLogMaxSize: big", "containerLogMaxSize: quantities must match"),
        ("evictionHard: [memory]", "evictionHard"),
        ("maxPods: null", ""),
    ],
)
def test_fields_of_the_file_have_their_types(tmp_path: Path, field: str, problem: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"{HEAD}{field}\n")
    given = parser().parse(["--kubeconfig=/k", f"--config={file}"])
    with pytest.raises(ConfigError, match=re.escape(problem)) if problem else contextlib.nullcontext():
        configuration(given)


def test_deprecated_flags_say_what_fields_of_the_file_say(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"{HEAD}cpuManagerPolicy: static\nreservedSystemCPUs: 0-1\nmemoryManagerPolicy: Static\n"
        "reservedMemory:\n- {numaNode: 0, limits: {memory: 1Gi, hugepages-2Mi: 64Mi}}\n"
        "- {numaNode: 1, limits: {memory: 2Gi}}\n"
        "topologyManagerPolicy: restricted\ntopologyManagerScope: pod\nimageMinimumGCAge: 5m\n"
        "cpuManagerPolicyOptions: {full-pcpus-only: 'true'}\nkubeAPIQPS: 70\nkubeAPIBurst: 90\n"
    )
    flags = (
        "--cpu-manager-policy=static --reserved-cpus=0-1 --memory-manager-policy=Static "
        "--reserved-memory=0:memory=1Gi,hugepages-2Mi=64Mi;1:memory=2Gi --topology-manager-policy=restricted "
        "--topology-manager-scope=pod --minimum-image-ttl-duration=5m --kube-api-qps=70 --kube-api-burst=90 "
        "--cpu-manager-policy-options=full-pcpus-only=true"
    )
    by_file, _ = configuration(parser().parse(["--kubeconfig=/k", f"--config={file}"]))
    by_flags, _ = configuration(parser().parse(["--kubeconfig=/k", *flags.split()]))
    assert describe(by_flags) == describe(by_file)
    assert describe(by_file)["kubeAPIQPS"] == 70


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        (
            "--cpu-manager-policy=dynamic",
            "--cpu-manager-policy: 'dynamic' is not supported; choose one of none",
        ),
        ("--reserved-memory=memory=1Gi", "names no NUMA node; write 0:memory=1Gi"),
        ("--reserved-cpus=x", "--reserved-cpus: "),
    ],
)
def test_such_flags_are_refused_by_name(flag: str, problem: str) -> None:
    with pytest.raises((CannotStart, FlagError), match=re.escape(problem)):
        configuration(parser().parse(["--kubeconfig=/k", flag]))


def test_the_nodes_resolver_is_one_that_pods_can_reach(tmp_path: Path) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("nameserver 127.0.0.53\n")
    assert config.default_resolver_file(str(stub), real) == str(stub)
    real.write_text("nameserver 9.9.9.9\n")
    assert config.default_resolver_file(str(stub), real) == str(real)
    assert config.default_resolver_file(str(real), stub) == str(real)


def test_static_pods(tmp_path: Path) -> None:
    text = "kind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: x}]}\n"
    made = read_manifest(text, "/m/web.yaml", "Node-1", "2026-01-01T00:00:00Z")
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == ("web-node-1", "default")
    assert made["spec"]["nodeName"] == "Node-1"
    again = read_manifest(text, "/m/web.yaml", "Node-1", "2027-01-01T00:00:00Z")
    assert again["metadata"]["uid"] == made["metadata"]["uid"]
    other = read_manifest(text.replace("image: x", "image: y"), "/m/web.yaml", "Node-1", "")
    assert other["metadata"]["uid"] != made["metadata"]["uid"]
    mirror = mirror_of(made, {"metadata": {"name": "Node-1", "uid": "u"}})
    assert is_mirror_of(mirror, made)
    assert not is_mirror_of(mirror, other)
    with pytest.raises(ManifestError):
        read_manifest("kind: Service", "f", "n", "")

    told: list[list[str]] = []
    follower = StaticPods(
        tmp_path, "n", SystemClock(), lambda found: told.append([p["metadata"]["name"] for p in found])
    )
    follower.look()
    (tmp_path / "web.yaml").write_text(text)
    (tmp_path / ".hidden").write_text(text)
    follower.look()
    follower.look()
    (tmp_path / "web.yaml").unlink()
    follower.look()
    assert told == [[], ["web-n"], []]


def test_who_may_ask_for_what() -> None:
    assert subresources("/pods") == ["pods", "proxy"]
    assert subresources("/metrics/resource") == ["metrics"]
    assert subresources("/containerLogs/ns/pod/c") == ["proxy"]
    assert subresources("/logs/syslog") == ["log"]


def test_the_user_of_a_certificate() -> None:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "system:masters"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "kube-apiserver"),
        ]
    )
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(start).not_valid_after(start + datetime.timedelta(days=1))
    user = user_of_certificate(made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
    assert (user.name, user.groups) == ("kube-apiserver", ("system:masters", "system:authenticated"))


def test_two_addresses_of_one_type_survive_the_patch() -> None:
    gvk = GroupVersionKind("", "v1", "Node")
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {}}
    both = [{"type": "InternalIP", "address": address} for address in ("192.0.2.1", "2001:db8::1")]
    for before in ({}, {"addresses": both[:1]}, {"addresses": both}):
        body = orjson.dumps({"status": _patch(before, {"addresses": both})})
        merged = patch_object({**node, "status": before}, body, STRATEGIC_MERGE, gvk, schema_for(gvk))
        assert merged.object["status"]["addresses"] == both
