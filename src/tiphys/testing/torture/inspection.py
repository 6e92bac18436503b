"""What a cluster at rest must look like: nothing missing, nothing twice, nothing left of what is gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from tiphys.api.object import Object
from tiphys.client.resources import JOBS, PODS
from tiphys.client.rest import Client
from tiphys.cluster.processes import cgroups_of
from tiphys.cluster.settings import Settings
from tiphys.kubelet.runtime.cri import CRIClient
from tiphys.kubelet.runtime.service import Container, ContainerState, Sandbox
from tiphys.testing.torture.churn import COMPLETIONS, WORKLOADS
from tiphys.testing.torture.identity import Identities


async def inspect(client: Client, settings: Settings, namespace: str, identities: Identities) -> list[str]:
    """A sentence for everything that is not as it must be. When all is, ``identities`` note what runs."""
    pods = (await client.list(PODS, namespace))["items"]
    faults = []
    for kind, path in WORKLOADS.items():
        faults += workload_faults(await client.get(path, kind.lower(), namespace), kind, pods)
    faults += [fault for job in (await client.list(JOBS, namespace))["items"] for fault in job_faults(job)]
    faults += await runtime_faults(settings, pods, namespace, identities.seen)
    faults += identities.faults(pods)
    if not faults:
        identities.note(pods)
    return faults


def workload_faults(workload: Object, kind: str, pods: Sequence[Object]) -> list[str]:
    wanted = 1 if kind == "DaemonSet" else workload["spec"]["replicas"]
    label = kind.lower()
    own = [pod for pod in pods if pod["metadata"]["labels"].get("app") == label]
    faults = []
    if len(own) != wanted:
        faults.append(f"{label} has {len(own)} pods instead of {wanted}")
    faults += [f"pod {pod['metadata']['name']} is not ready" for pod in own if not _is_ready(pod)]
    if workload["status"].get("observedGeneration") != workload["metadata"]["generation"]:
        faults.append(f"the status of {label} is old")
    return faults


def job_faults(job: Object) -> list[str]:
    status, name = job.get("status", {}), job["metadata"]["name"]
    if not status.get("completionTime"):
        return [f"{name} is not complete"]
    if status.get("succeeded") != COMPLETIONS:
        return [f"{name} counts {status.get('succeeded')} completions instead of {COMPLETIONS}"]
    return []


async def runtime_faults(
    settings: Settings, pods: Sequence[Object], namespace: str, seen: Collection[str]
) -> list[str]:
    """What the runtime and the machine have that is not of these pods; ``seen`` are uids of pods that there were."""
    runtime = CRIClient(str(settings.containerd_socket))
    try:
        everybodys = list(await runtime.list_sandboxes())
        containers = list(await runtime.list_containers())
    finally:
        await runtime.close()
    sandboxes = [sandbox for sandbox in everybodys if sandbox.namespace == namespace]
    uids = {pod["metadata"]["uid"] for pod in pods}
    faults = container_faults(pods, sandboxes, containers) + leftovers(settings, uids)
    faults += [f"the cgroup {path} is left behind" for path in cgroups_of(frozenset(seen) - uids)]
    networks = [path for path in _mounts(settings.run_dir) if "/netns/" in path]
    if len(networks) > len(everybodys):
        faults.append(f"there are {len(networks)} network namespaces for {len(everybodys)} sandboxes")
    return faults


def container_faults(
    pods: Sequence[Object], sandboxes: Sequence[Sandbox], containers: Sequence[Container]
) -> list[str]:
    """Pods that run twice or not at all, and sandboxes and containers of pods that are gone."""
    names = {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in pods}
    live = {pod["metadata"]["uid"] for pod in pods if pod["status"].get("phase") == "Running"}
    ready = Counter(sandbox.uid for sandbox in sandboxes if sandbox.ready)
    owners = {sandbox.id: sandbox.uid for sandbox in sandboxes}
    running = Counter(
        owners[container.sandbox_id]
        for container in containers
        if container.state is ContainerState.RUNNING and container.sandbox_id in owners
    )
    faults = [f"a sandbox of {sandbox.name} is left behind" for sandbox in sandboxes if sandbox.uid not in names]
    faults += [f"pod {names[uid]} has {ready[uid]} sandboxes" for uid in live if ready[uid] != 1]
    faults += [f"pod {names[uid]} has {running[uid]} running containers" for uid in live if running[uid] != 1]
    ended = names.keys() - live
    return faults + [f"pod {names[uid]} has ended and a container of it runs" for uid in ended if running[uid]]


def leftovers(settings: Settings, uids: set[str]) -> list[str]:
    """Folders and mounts of pods that are gone. Other namespaces have no pods in this cluster."""
    root = settings.kubelet_dir / "pods"
    folders = {path.name for path in root.iterdir()} if root.exists() else set()
    mounts = _mounts(root)
    gone = [f"the folder of pod {uid} is left behind" for uid in sorted(folders - uids)]
    return gone + [f"the mount {path} is left behind" for path in mounts if not any(uid in path for uid in uids)]


def _mounts(folder: Path) -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line]


def _is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
