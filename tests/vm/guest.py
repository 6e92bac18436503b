"""Runs in the virtual machine, from its service: tries what only such a host shows, and tells it line by line.

A line is ``ok``, ``FAIL`` or ``--`` (a fact), what it is about, and seconds. The first boot ends with a reboot, in
which the machine's own logind delays the end for the pods of a node; the second one looks at what came back.
Standard library only, as the machine has nothing but the package's wheel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

OUT = Path("/srv/tiphys/out")
SECOND_BOOT = OUT / "second-boot"
IMAGE, PAUSE = "tiphys.local/demo:1", "tiphys.local/pause:1"
CONFIG = "/var/lib/tiphys/admin.conf"
RUNTIME_LOG = Path("/var/lib/tiphys/logs/containerd.log")
CGROUPS = Path("/sys/fs/cgroup")
NODE_TESTS = (
    *(
        "tests/kubelet/test_cgroups.py",
        "tests/kubelet/test_systemd_cgroups.py",
        "tests/kubelet/test_containerd.py",
        "tests/kubelet/test_hostile_volumes.py",
    ),
    *("tests/kubelet/test_killed_runtime.py", "tests/kubelet/test_shutdown.py", "tests/cluster/test_supervisor.py"),
)


_NO_ANSWER = ("Unable to connect", "TLS handshake timeout", "deadline exceeded", "was refused", "unexpected EOF")


def say(*words: object) -> None:
    print(*words, flush=True)


def sh(*words: str | Path, stdin: str | None = None, timeout: float = 600, check: bool = True) -> str:
    done = subprocess.run(
        list(map(str, words)), input=stdin, capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{words[0]} gave {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def kubectl(*words: str, **more: Any) -> str:
    """Again for as long as the server has no time to answer, which is all that a slow machine can be blamed for."""
    deadline = time.monotonic() + 600
    while True:
        try:
            return sh("kubectl", "--kubeconfig", CONFIG, "--request-timeout=120s", *words, **more)
        except AssertionError as error:
            if not any(text in str(error) for text in _NO_ANSWER) or time.monotonic() > deadline:
                raise


def get(*words: str) -> Any:
    return json.loads(kubectl("get", *words, "-o", "json"))


def wait(condition: Callable[[], Any], what: str, seconds: float = 900) -> Any:
    """Software that plays a processor is slow: nothing here says how fast anything is."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if result := condition():
                return result
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds:.0f} s")
        time.sleep(0.5)


def attempt(name: str, step: Callable[[], str | None]) -> bool:
    started = time.monotonic()
    try:
        detail, mark = step(), "ok  "
    except Exception:  # noqa: BLE001 - each step is told, and those after it are tried
        detail, mark = traceback.format_exc(limit=2), "FAIL"
    say(f"{mark} {name} ({time.monotonic() - started:.0f} s){f': {detail}' if detail else ''}")
    return mark == "ok  "


# -- the first boot ---------------------------------------------------------------------------------------------------


def facts() -> str:
    versions = [
        sh("uname", "-sr"),
        sh("systemctl", "--version").splitlines()[0],
        sh("containerd", "--version").split("github.com/containerd/containerd ")[-1],
        sh("runc", "--version").splitlines()[0],
        sh("stat", "-fc", "cgroups: %T", CGROUPS),
    ]
    return ", ".join(version.strip() for version in versions)


def network() -> None:
    """A first address: nothing else gives the machine one."""
    [name] = [name for name in os.listdir("/sys/class/net") if name != "lo"]
    sh("ip", "link", "set", name, "up")
    sh("ip", "address", "add", "10.0.2.15/24", "dev", name)
    sh("ip", "route", "add", "default", "via", "10.0.2.2")


def ready(name: str = "") -> Any:
    nodes = get("nodes")["items"]
    return [
        node["metadata"]["name"]
        for node in nodes
        if node["metadata"]["name"].startswith(name)
        and any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])
    ]


def up() -> str:
    sh("tiphys", "up", check=False)  # which waits two minutes itself
    return str(wait(ready, "a Ready node"))


def demo() -> str:
    def shown() -> str:
        return sh("tiphys", "demo").strip().splitlines()[-1]

    return str(wait(shown, "the demo's pods"))


LIMITED = f"""
apiVersion: v1
kind: Pod
metadata: {{name: limited}}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: {IMAGE}
    command: [sh, -c, "sleep 100000"]
    resources: {{limits: {{cpu: 500m, memory: 48Mi}}}}
"""
HUNGRY = f"""
apiVersion: v1
kind: Pod
metadata: {{name: hungry-%d}}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: {IMAGE}
    command: [sh, -c, "x=0123456789abcdef; while :; do x=$x$x; done"]
    resources: {{limits: {{memory: 32Mi}}}}
"""
HUNGRY_PODS = 5
ONLY = "tiphys.only="
SHORT = f"""
apiVersion: v1
kind: Pod
metadata: {{name: short}}
spec: {{restartPolicy: Never, containers: [{{name: main, image: {IMAGE}, command: ["true"]}}]}}
"""


def status(name: str) -> Any:
    return get("pod", name)["status"]


def limits() -> str:
    kubectl("apply", "-f", "-", stdin=LIMITED)
    wait(lambda: status("limited").get("phase") == "Running", "the limited pod")
    uid = get("pod", "limited")["metadata"]["uid"]
    folder = _pod_cgroup(uid)
    inside = [_limits_of(child) for child in folder.iterdir() if child.is_dir()]
    wanted = ("50000 100000", str(48 << 20))
    assert wanted in inside, inside
    assert _limits_of(folder) == wanted, _limits_of(folder)
    [own] = [child for child in folder.iterdir() if child.is_dir() and _limits_of(child) == wanted]
    swap = (own / "memory.swap.max").read_text().strip()
    assert swap == "0", f"the container may swap {swap} bytes"
    processes = int((folder / "pids.current").read_text())
    [node] = ready()
    summary = json.loads(kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary"))
    [shown] = [pod["process_stats"]["process_count"] for pod in summary["pods"] if pod["podRef"]["uid"] == uid]
    assert shown == processes > 0, (shown, processes)
    capacity = int(get("node", "vm")["status"]["capacity"]["memory"].removesuffix("Ki")) << 10
    everything = folder.parent
    assert _limits_of(everything) == ("max 100000", str(capacity)), _limits_of(everything)
    weights = {each: (CGROUPS / each / "cpu.weight").read_text().strip() for each in _classes(everything)}
    return (
        f"the pod {folder.relative_to(CGROUPS)} {_limits_of(folder)}, its containers {inside}; all pods"
        f" {_limits_of(everything)}; weights {weights}; no swap; {processes} processes"
    )


def resize(name: str, resources: dict[str, Any]) -> None:
    """As ``kubectl patch --subresource resize`` of newer versions than Debian's. Again, if the pod has changed."""

    def replaced() -> bool:
        pod = get("pod", name)
        pod["spec"]["containers"][0]["resources"] = resources
        kubectl("replace", "--raw", f"/api/v1/namespaces/default/pods/{name}/resize", "-f", "-", stdin=json.dumps(pod))
        return True

    wait(replaced, "the resize", 120)


def _pod_cgroup(uid: str) -> Path:
    names = (uid, f"{uid.replace('-', '_')}.slice")
    [folder] = [Path(path) for path, _, _ in os.walk(CGROUPS) if path.endswith(names)]
    return folder


def _classes(everything: Path) -> list[str]:
    return sorted(
        str(path.relative_to(CGROUPS)) for path in (everything, *everything.glob("*e*st*.slice")) if path.is_dir()
    )


def _limits_of(folder: Path) -> tuple[str, str]:
    return (folder / "cpu.max").read_text().strip(), (folder / "memory.max").read_text().strip()


def resized() -> str:
    """In place, and still so when systemd has read its units again; the pod that ends leaves no slice."""
    more = {"cpu": "700m", "memory": "56Mi"}
    uid = get("pod", "limited")["metadata"]["uid"]
    container = status("limited")["containerStatuses"][0]["containerID"]
    resize("limited", {"limits": more, "requests": more})
    wanted = ("70000 100000", str(56 << 20))
    wait(lambda: _limits_of(_pod_cgroup(uid)) == wanted, "the pod's new limits")
    sh("systemctl", "daemon-reload")
    kubectl("apply", "-f", "-", stdin=SHORT)
    wait(lambda: status("short").get("phase") == "Succeeded", "the short pod")
    short = get("pod", "short")["metadata"]["uid"]
    assert _limits_of(_pod_cgroup(uid)) == wanted, _limits_of(_pod_cgroup(uid))
    assert status("limited")["containerStatuses"][0]["containerID"] == container
    kubectl("delete", "pod", "short")
    unit = f"kubepods-besteffort-pod{short.replace('-', '_')}.slice"
    wait(lambda: unit not in sh("systemctl", "list-units", "--all", "--no-legend"), "the end of the short pod's slice")
    return f"{_limits_of(_pod_cgroup(uid))} after a daemon-reload; {unit} is gone"


def killed_for_memory() -> str:
    """Several at once: the end of a container is often heard of before why it was killed."""
    names = [f"hungry-{number}" for number in range(HUNGRY_PODS)]
    kubectl("apply", "-f", "-", stdin="---".join(HUNGRY % number for number in range(HUNGRY_PODS)))
    for name in names:
        wait(lambda name=name: status(name).get("phase") == "Failed", f"the end of {name}")
    ended = [status(name)["containerStatuses"][0]["state"]["terminated"] for name in names]
    told = [line for line in RUNTIME_LOG.read_text(errors="replace").splitlines() if "TaskOOM" in line]
    assert [end["reason"] for end in ended] == ["OOMKilled"] * HUNGRY_PODS, (ended, told)
    return f"exit codes {[end['exitCode'] for end in ended]}, reason OOMKilled; the runtime said so {len(told)} times"


def figures() -> str:
    [node] = ready()
    summary = json.loads(kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary"))
    own = next(pod for pod in summary["pods"] if pod["podRef"]["name"] == "limited")
    used, pressure = own["memory"]["workingSetBytes"], summary["node"]["memory"].get("psi")
    assert used > 0
    assert pressure is not None, "the kernel counts pressure, and the node does not say it"
    return f"the limited pod uses {used} bytes; the node tells its pressure"


def node_tests() -> str:
    sh("ip", "link", "add", "dummy0", "type", "dummy", check=False)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "timeout=1200",
            "-rf",
            "-rs",
            *NODE_TESTS,
        ],
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    for line in lines:
        if line.startswith(("FAILED", "SKIPPED", "ERROR", "E  ")):
            say("    ", line[:300])
    assert done.returncode == 0, lines[-1:]
    return lines[-1]


def with_systemd() -> str:
    """The cluster as a unit of systemd's: its pods outlive a restart of it."""
    sh("tiphys", "down")
    sh("tiphys", "install", "--systemd")
    sh("systemctl", "enable", "--now", "tiphys")
    wait(ready, "a Ready node")
    wait(lambda: status("limited").get("phase") == "Running", "the pod")
    before = status("limited")["containerStatuses"][0].get("containerID")
    sh("systemctl", "restart", "tiphys")
    wait(ready, "a Ready node")
    after = status("limited")["containerStatuses"][0].get("containerID")
    return "the container outlived a restart of the unit" if after == before else f"another container: {before} {after}"


# A second node of this machine: Debian's containerd, and a kubelet that delays a shutdown.

KUBELET = """
kind: KubeletConfiguration
apiVersion: kubelet.config.k8s.io/v1beta1
shutdownGracePeriod: 180s
shutdownGracePeriodCriticalPods: 20s
cgroupDriver: cgroupfs
cgroupRoot: /second
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
port: 10260
healthzPort: 0
"""

GUEST = f"""
apiVersion: v1
kind: Pod
metadata: {{name: on-second}}
spec:
  nodeName: second
  hostNetwork: true
  terminationGracePeriodSeconds: 60
  tolerations: [{{operator: Exists}}]
  volumes: [{{name: out, hostPath: {{path: {OUT}}}}}]
  containers:
  - name: main
    image: {IMAGE}
    command: [sh, -c, "trap 'sleep 2; date +%s > /out/ended; exit 0' TERM; while :; do sleep 0.2; done"]
    lifecycle: {{preStop: {{exec: {{command: [sh, -c, "sleep 3; date +%s > /out/prestop"]}}}}}}
    volumeMounts: [{{name: out, mountPath: /out}}]
"""


def second_node() -> str:
    wait(lambda: ready("vm"), "the first node")  # if this is the first step since the machine started
    archive = OUT / "images.tar"
    sh("ctr", "-a", "/run/tiphys/containerd.sock", "-n", "k8s.io", "images", "export", archive, IMAGE, PAUSE)
    config = f'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\n  sandbox_image = "{PAUSE}"\n'
    config += '[plugins."io.containerd.grpc.v1.cri".cni]\n  bin_dir = "/usr/lib/cni"\n  conf_dir = "/etc/cni/net.d"\n'
    Path("/etc/cni/net.d").mkdir(parents=True, exist_ok=True)  # without a network the node would not be ready
    plugins = [{"type": "loopback"}]
    network_list = {"cniVersion": "0.4.0", "name": "second", "plugins": plugins}
    Path("/etc/cni/net.d/10-second.conflist").write_text(json.dumps(network_list))
    Path("/etc/containerd").mkdir(exist_ok=True)
    Path("/etc/containerd/config.toml").write_text(config)
    sh("systemctl", "start", "containerd")
    sh("ctr", "-n", "k8s.io", "images", "import", archive)
    (OUT / "kubelet.yaml").write_text(KUBELET)
    words = ["--kubeconfig", CONFIG, "--config", OUT / "kubelet.yaml", "--hostname-override", "second"]
    words += ["--root-dir", "/var/lib/second", "--node-ip", "10.0.2.15"]
    sh("systemd-run", "--unit=second-kubelet", "-p", "KillMode=process", "/opt/tiphys/bin/tiphys", "kubelet", *words)
    wait(lambda: ready("second"), "the second node")
    kubectl("delete", "pod", "on-second", "--ignore-not-found", "--force", "--grace-period=0")  # of an earlier try
    kubectl("apply", "-f", "-", stdin=GUEST)
    wait(lambda: status("on-second").get("phase") == "Running", "the pod on the second node")
    held = wait(lambda: [line for line in inhibitors() if "kubelet" in line], "the kubelet's inhibitor")
    return " ".join(held[0].split())


def inhibitors() -> Iterable[str]:
    return sh("systemd-inhibit", "--list", "--no-legend").splitlines()


# -- the second boot --------------------------------------------------------------------------------------------------


def came_back() -> str:
    """What is to run runs again; a pod that is never to be restarted has ended."""
    wait(lambda: ready("vm"), "the node after the reboot")

    def running() -> Any:
        statuses = [pod["status"] for pod in get("pods", "-n", "tiphys-demo")["items"]]
        containers = [each for status in statuses for each in status.get("containerStatuses") or [{}]]
        return containers if containers and all(each.get("ready") for each in containers) else None

    restarts = [each["restartCount"] for each in wait(running, "the demo's pods after the reboot")]
    assert all(restarts), restarts
    ended = wait(lambda: status("limited")["phase"] in ("Failed", "Succeeded") and status("limited"), "its end")
    return f"the demo's containers were restarted {restarts} times; one that is not to be restarted is {ended['phase']}"


def ended_gracefully() -> str:
    prestop, ended = int((OUT / "prestop").read_text()), int((OUT / "ended").read_text())
    asked = float((OUT / "asked").read_text())
    shown = status("on-second")
    assert (shown["phase"], shown.get("reason")) == ("Failed", "Terminated"), shown
    return (
        f"preStop ended {prestop - asked:.0f} s and the container {ended - asked:.0f} s after the reboot was asked for;"
        f" the pod is {shown['phase']}, {shown['reason']}: {shown.get('message')}"
    )


def reset() -> str:
    """Whatever the first boot and this one made is gone, and the tests after it find a plain machine."""
    sh("systemctl", "disable", "--now", "tiphys")
    sh("tiphys", "reset", "-y")
    left = [str(path) for path in CGROUPS.glob("kubepods*")]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if "/var/lib/tiphys" in line]
    assert not [*left, *mounts], (left, mounts)
    return "no cgroup and no mount is left"


FIRST = {
    "network": network,
    "tiphys doctor": lambda: sh("tiphys", "doctor", check=False).strip().splitlines()[-1],
    "tiphys up": up,
    "tiphys demo": demo,
    "limits in cgroup v2": limits,
    "a resize, and a reload of systemd's units": resized,
    "a pod over its memory": killed_for_memory,
    "figures": figures,
    "as a unit of systemd": with_systemd,
    "a node that delays a shutdown": second_node,
}
SECOND = {
    "network": network,
    "the cluster after a reboot": came_back,
    "graceful shutdown by logind": ended_gracefully,
    "a reset": reset,
    "node tests": node_tests,
}


def wanted(step: str) -> bool:
    """Whether the machine was asked for this step, or for all: by words of its kernel's command line."""
    only = [word.partition("=")[2] for word in Path("/proc/cmdline").read_text().split() if word.startswith(ONLY)]
    return not only or step == "network" or any(text in step.replace(" ", "-") for text in only)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    OUT.chmod(0o777)
    again = SECOND_BOOT.exists()
    if not again:
        say(f"--   {facts()}")
    steps = {name: step for name, step in (SECOND if again else FIRST).items() if wanted(name)}
    results = [attempt(name, step) for name, step in steps.items()]
    say(f"--   {'second' if again else 'first'} boot: {sum(results)} of {len(results)} ok")
    SECOND_BOOT.touch()
    (OUT / "asked").write_text(str(time.time()))
    sh("systemctl", "--no-block", "poweroff" if again else "reboot")


if __name__ == "__main__":
    main()
