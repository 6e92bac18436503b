"""POST /checkpoint/{namespace}/{pod}/{container}: the runtime writes a running container to an archive on the node.

Source: https://kubernetes.io/docs/reference/node/kubelet-checkpoint-api/ (KEP-2008)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tiphys.controlkit.objects import timestamp
from tiphys.kubelet import labels
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.runtime.service import ContainerState, RuntimeFailure, RuntimeService
from tiphys.kubelet.server import answers
from tiphys.runtime.clock import Clock
from tiphys.wire.http import Response

FOLDER = "checkpoints"


class ContainerCheckpoints:
    """``root`` is the kubelet's folder. Archives hold what is in a container's memory: only root may read them."""

    def __init__(self, root: Path, runtime: RuntimeService, clock: Clock) -> None:
        self._folder = root / FOLDER
        self._runtime = runtime
        self._clock = clock

    async def answer(
        self, pod: Pod | None, path: Mapping[str, str], parameters: Mapping[str, Sequence[str]]
    ) -> Response:
        """The name of the archive, or what is wrong, as upstream says it."""
        name = path["container"]
        if pod is None:
            return answers.plain(404, "pod does not exist")
        if pods.find_container(pod, name) is None:
            return answers.plain(404, f"container {name} does not exist")
        try:
            timeout = int([*(parameters.get("timeout") or ("0",))][-1])
        except ValueError:
            return answers.plain(404, "cannot parse value of timeout parameter")
        full_name = f"{pods.name_of(pod)}_{pods.namespace_of(pod)}"
        location = self._folder / f"checkpoint-{full_name}-{name}-{timestamp(self._clock.now())}.tar"
        try:
            await self._checkpoint(pods.uid_of(pod), name, str(location), timeout)
        except (_Failure, OSError, RuntimeFailure) as error:
            problem = error.raw if isinstance(error, RuntimeFailure) else str(error)
            where = f"{path['namespace']}/{path['pod']}/{name}"
            return answers.plain(500, f"checkpointing of {where} failed ({problem})")
        return answers.json({"items": [str(location)]})

    async def _checkpoint(self, uid: str, name: str, location: str, timeout: int) -> None:
        running = [c for c in await self._runtime.list_containers(uid) if c.state is ContainerState.RUNNING]
        ours = next((c for c in running if c.labels.get(labels.CONTAINER_NAME, c.name) == name), None)
        if ours is None:
            raise _Failure(f"container {name} not found")
        if timeout < 0:
            raise _Failure("CheckpointContainer requires the timeout value to be > 0")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._runtime.checkpoint_container(ours.id, location, timeout)


class _Failure(Exception):
    """Why nothing was asked of the runtime."""
