"""Flags of the kubelet and fields of its file: what each sets, and what comes of it."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kubelet.test_pages import Ask, seen
from tests.kubelet.world import World
from tiphys.kubelet.cgroups.files import CgroupFiles
from tiphys.kubelet.command import configuration, parser
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.configfile import FIELDS, apply_file
from tiphys.kubelet.configz import FIXED, describe
from tiphys.kubelet.node.preparing import prepare
from tiphys.kubelet.server.auth import subresources
from tiphys.runtime.component import CannotStart, ConfigError

HEAD = "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\n"
FILE = f"""{HEAD}
authentication: {{webhook: {{cacheTTL: 1m}}}}
authorization: {{webhook: {{cacheAuthorizedTTL: 2m, cacheUnauthorizedTTL: 3s}}}}
enableDebuggingHandlers: false
enableProfilingHandler: false
enableServer: false
enforceNodeAllocatable: [pods, system-reserved, kube-reserved-compressible]
systemReservedCgroup: /system
kubeReservedCgroup: /kube
evictionPressureTransitionPeriod: 30s
evictionSoft: {{memory.available: 1Gi}}
evictionSoftGracePeriod: {{memory.available: 1m30s}}
evictionMaxPodGracePeriod: 20
evictionMinimumReclaim: {{memory.available: 100Mi}}
failCgroupV1: true
failSwapOn: false
fileCheckFrequency: 5s
imageServiceEndpoint: unix:///run/images.sock
maxOpenFiles: 4096
nodeLeaseDurationSeconds: 60
nodeStatusMaxImages: 3
nodeStatusUpdateFrequency: 4s
oomScoreAdj: -7
podsPerCore: 4
runtimeRequestTimeout: 1m30s
syncFrequency: 10s
tlsCipherSuites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
tlsMinVersion: VersionTLS13
"""


def test_the_fields_of_a_file_are_what_configz_shows() -> None:
    config = KubeletConfig("n")
    apply_file(config, FILE, "config.yaml")
    shown = describe(config)
    assert (config.tokens_for, config.allowed_for, config.denied_for) == (60, 120, 3)
    assert shown["authorization"]["webhook"] == {"cacheAuthorizedTTL": "2m0s", "cacheUnauthorizedTTL": "3s"}
    assert (shown["evictionPressureTransitionPeriod"], shown["runtimeRequestTimeout"]) == ("30s", "1m30s")
    assert (shown["evictionSoft"], shown["evictionMaxPodGracePeriod"]) == ({"memory.available": "1Gi"}, 20)
    assert shown["evictionSoftGracePeriod"] == {"memory.available": "1m30s"}
    assert shown["enforceNodeAllocatable"] == ["pods", "system-reserved", "kube-reserved-compressible"]
    assert (shown["systemReservedCgroup"], shown["kubeReservedCgroup"]) == ("/system", "/kube")
    assert shown["evictionMinimumReclaim"] == {"memory.available": "100Mi"}
    assert (shown["nodeStatusUpdateFrequency"], shown["nodeStatusReportFrequency"]) == ("4s", "4s")
    assert (shown["nodeLeaseDurationSeconds"], shown["nodeStatusMaxImages"], shown["podsPerCore"]) == (60, 3, 4)
    assert (shown["oomScoreAdj"], shown["maxOpenFiles"], shown["syncFrequency"]) == (-7, 4096, "10s")
    assert (shown["enableServer"], shown["enableDebuggingHandlers"], shown["enableProfilingHandler"]) == (False,) * 3
    assert (shown["failSwapOn"], shown["failCgroupV1"], shown["tlsMinVersion"]) == (False, True, "VersionTLS13")
    assert config.image_socket == "/run/images.sock"
    assert (config.pods_on(2), config.pods_on(200), KubeletConfig("n").pods_on(2)) == (8, 110, 110)
    assert FIXED.keys() & FIELDS.keys() == {"logging"}  # shown as it is if it is set


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tlsCipherSuites: [RC4]", "cipher suite 'RC4' is unknown"),
        ("tlsMinVersion: VersionTLS10", "'VersionTLS10' is not supported"),
        ("oomScoreAdj: 1001", "must be between"),
        ("podsPerCore: many", "is not a whole number"),
        ("authorization: {webhook: {cacheAuthorizedTTL: soon}}", "cacheAuthorizedTTL"),
    ],
)
def test_values_that_make_no_sense_are_refused(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_file(KubeletConfig("n"), f"{HEAD}{line}\n", "config.yaml")


def test_flags_set_the_same(tmp_path: Path) -> None:
    words = (
        "--authentication-token-webhook-cache-ttl=1m --authorization-webhook-cache-authorized-ttl=2m"
        " --authorization-webhook-cache-unauthorized-ttl=3s --enable-debugging-handlers=false --enable-server=false"
        " --enforce-node-allocatable=pods,system-reserved,kube-reserved-compressible --system-reserved-cgroup=/system"
        " --kube-reserved-cgroup=/kube --eviction-soft=memory.available<1Gi"
        " --eviction-soft-grace-period=memory.available=1m30s"
        " --eviction-max-pod-grace-period=20 --eviction-minimum-reclaim=memory.available=100Mi"
        " --eviction-pressure-transition-period=30s --fail-cgroupv1 --fail-swap-on=false --file-check-frequency=5s"
        " --image-service-endpoint=unix:///run/images.sock --max-open-files=4096 --node-status-max-images=3"
        " --node-status-update-frequency=4s --oom-score-adj=-7 --pods-per-core=4 --runtime-request-timeout=1m30s"
        " --sync-frequency=10s --tls-cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
        " --tls-min-version=VersionTLS13 --kubeconfig=/k --hostname-override=n"
    )
    by_flags, _ = configuration(parser().parse(words.split()))
    by_file = KubeletConfig("n")
    apply_file(by_file, FILE, "config.yaml")
    own = {"nodeStatusReportFrequency", "nodeLeaseDurationSeconds", "enableProfilingHandler"}  # no flags
    own |= {"containerRuntimeEndpoint", "evictionHard", "healthzPort"}  # defaults of the command
    shown = [{k: v for k, v in describe(config).items() if k not in own} for config in (by_flags, by_file)]
    assert shown[0] == shown[1]
    with pytest.raises(CannotStart, match="--oom-score-adj"):
        configuration(parser().parse(["--kubeconfig=/k", "--oom-score-adj=2000"]))


def test_thresholds_of_the_command(tmp_path: Path) -> None:
    """Upstream's where none are given; what is given stands alone unless the defaults are to be merged in."""

    def thresholds(lines: str) -> dict[str, str]:
        file = tmp_path / "config.yaml"
        file.write_text(f"{HEAD}{lines}\n")
        config, _ = configuration(parser().parse(["--kubeconfig=/k", f"--config={file}"]))
        return dict(describe(config)["evictionHard"])

    defaults = {
        "memory.available": "100Mi",
        "nodefs.available": "10%",
        "nodefs.inodesFree": "5%",
        "imagefs.available": "15%",
        "imagefs.inodesFree": "5%",
    }
    assert thresholds("") == thresholds("mergeDefaultEvictionSettings: true") == defaults
    own = "evictionHard: {nodefs.available: 1Gi, pid.available: 5%}"
    assert thresholds(own) == {"nodefs.available": "1Gi", "pid.available": "5%"}
    merged = {**defaults, "nodefs.available": "1Gi", "pid.available": "5%"}
    assert thresholds(f"{own}\nmergeDefaultEvictionSettings: true") == merged
    assert thresholds("evictionHard: {}") == {}
    with pytest.raises(CannotStart, match=r"eviction threshold memory\.available must be positive: 0"):
        thresholds("evictionHard: {memory.available: '0'}")
    with pytest.raises(ConfigError, match=r"unsupported eviction signal memory\.free"):
        thresholds("evictionHard: {memory.free: 1Gi}")


def test_tracing_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="upstream's field tracing is not supported by Tiphys"):
        apply_file(KubeletConfig("n"), f"{HEAD}tracing: {{samplingRatePerMillion: 1}}\n", "config.yaml")


def test_debugging_and_profiles_can_be_turned_off(tmp_path: Path) -> None:
    async def scene(world: World, ask: Ask) -> None:
        assert (await ask("/debug/pprof/cmdline"))[0] == 200
        world.kubelet.config.profiling = False
        assert await ask("/debug/pprof/cmdline") == (405, "profiling endpoint is disabled.\n")
        assert (await ask("/containerLogs/default/web/c"))[0] == 404
        world.kubelet.config.debugging = False
        for path in ("/containerLogs/default/web/c", "/exec/default/web/c", "/logs/x", "/debug/pprof/"):
            assert await ask(path) == (405, "Debug endpoints are disabled.\n")
        assert (await ask("/pods"))[0] == 200

    seen(tmp_path, scene)


def test_who_may_see_profiles_may_do_everything_on_the_node() -> None:
    assert subresources("/debug/pprof/profile") == ["proxy"]


def test_machines_that_swap_or_have_old_control_groups_are_refused_if_asked(tmp_path: Path) -> None:
    swaps = tmp_path / "swaps"
    swaps.write_text("Filename Type Size Used Priority\n")
    config = KubeletConfig("n", fail_swap_on=True)
    prepare(config, swaps)
    prepare(config, tmp_path / "none")
    swaps.write_text("Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n")
    with pytest.raises(CannotStart, match="running with swap on is not supported"):
        prepare(config, swaps)
    prepare(KubeletConfig("n"), swaps)
    old = CgroupFiles(tmp_path)
    with pytest.raises(CannotStart, match="not run on a host using cgroup v1"):
        prepare(KubeletConfig("n", fail_cgroup_v1=True), swaps, old)
    (tmp_path / "cgroup.controllers").touch()
    prepare(KubeletConfig("n", fail_cgroup_v1=True), swaps, CgroupFiles(tmp_path))


def test_the_kubelet_may_have_as_many_files_open_as_it_is_told() -> None:
    code = """
import resource
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.node.preparing import prepare
prepare(KubeletConfig("n", max_open_files=1 << 40))
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
prepare(KubeletConfig("n", max_open_files=99))
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert done.stdout.splitlines()[-1] == "99 99"
    first = done.stdout.split()[0]
    assert int(first) >= min(most, 1 << 20)
