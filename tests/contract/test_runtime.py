"""The contract of ``RuntimeService`` and ``ImageService``: one suite, held by the simulated runtime and by containerd.

containerd is started privately for the suite, with its files, bridge and cgroups of its own, and taken away after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.machine import private_containerd, skip_without_containerd
from tests.kubelet.simulated import SimulatedRuntime
from tiphys.kubelet.runtime.service import (
    ContainerState,
    EventType,
    RuntimeFailure,
    RuntimeNotFound,
    RuntimeTimeout,
    RuntimeUnsupported,
)
from tiphys.runtime.clock import SystemClock

IMAGE = "tiphys.local/demo:1"
MISSING = "localhost:1/nothing/here:1"
OWN = os.getpid()
CGROUP = f"/tiphys-contract-{OWN}"

Body = Callable[[Any], Awaitable[None]]
Run = Callable[[Body], None]


@pytest.fixture(scope="session")
def containerd_runner(tmp_path_factory: pytest.TempPathFactory) -> Any:
    skip_without_containerd()
    folder = tmp_path_factory.mktemp("containerd")
    runner = asyncio.Runner()
    loop = runner.get_loop()
    context = private_containerd(folder, f"tpc{OWN}", f"10.251.{128 + OWN % 128}.0/24", CGROUP)
    client = loop.run_until_complete(context.__aenter__())
    yield loop, client
    loop.run_until_complete(context.__aexit__(None, None, None))
    runner.close()


@pytest.fixture(params=["simulated", pytest.param("containerd", marks=[pytest.mark.e2e, pytest.mark.root])])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test's coroutine with the runtime under test."""
    if request.param == "simulated":

        def simulated(body: Body) -> None:
            async def main() -> None:
                runtime = SimulatedRuntime(SystemClock(), missing_images=[MISSING])
                await body(runtime)
                await runtime.close()

            asyncio.run(main())

        return simulated
    loop, client = request.getfixturevalue("containerd_runner")

    def real(body: Body) -> None:
        loop.run_until_complete(asyncio.wait_for(body(client), 60))

    return real


def sandbox_config(name: str, tmp_path: Path) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "namespace": "contract", "attempt": 2},
        "hostname": name,
        "log_directory": str(tmp_path),
        "labels": {"io.kubernetes.pod.uid": f"uid-{name}", "app": "web"},
        "annotations": {"note": "kept"},
        "linux": {
            "cgroup_parent": f"{CGROUP}/{name}",
            "security_context": {"namespace_options": {"network": 0, "pid": 1, "ipc": 0}},
        },
    }


def container_config(sandbox: dict[str, Any], *command: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "main", "attempt": 3},
        "image": {"image": IMAGE},
        "command": list(command),
        "labels": {"io.kubernetes.pod.uid": sandbox["metadata"]["uid"], "io.kubernetes.container.name": "main"},
        "annotations": {"io.kubernetes.container.restartCount": "3"},
        "log_path": "main/0.log",
        "linux": {"resources": {"cpu_shares": 100}, "security_context": {"namespace_options": {"pid": 1}}},
    }


async def start(runtime: Any, tmp_path: Path, name: str, *command: str) -> tuple[str, str]:
    config = sandbox_config(name, tmp_path)
    sandbox_id = await runtime.run_sandbox(config)
    container_id = await runtime.create_container(sandbox_id, container_config(config, *command), config)
    await runtime.start_container(container_id)
    return sandbox_id, container_id


async def until_exited(runtime: Any, container_id: str) -> Any:
    for _ in range(500):
        status = await runtime.container_status(container_id)
        if status.state is ContainerState.EXITED:
            return status
        await asyncio.sleep(0.01)
    raise AssertionError("the container did not end")


def test_it_says_that_it_is_ready(run: Run) -> None:
    async def body(runtime: Any) -> None:
        version = await runtime.version()
        assert version.name
        assert version.api_version == "v1"
        conditions = {c.type: c.status for c in (await runtime.status()).conditions}
        assert conditions == {"RuntimeReady": True, "NetworkReady": True}

    run(body)


def test_a_sandbox_from_start_to_removal(run: Run, tmp_path: Path) -> None:
    async def body(runtime: Any) -> None:
        config = sandbox_config("whole", tmp_path)
        identity = await runtime.run_sandbox(config)
        status = await runtime.sandbox_status(identity)
        assert (status.name, status.namespace, status.uid) == ("whole", "contract", "uid-whole")
        assert (status.attempt, status.ready, status.host_network) == (2, True, False)
        assert len(status.ips) == 1
        assert status.labels["app"] == "web"
        assert status.annotations["note"] == "kept"
        assert status.created_at > 1_600_000_000
        assert [s.id for s in await runtime.list_sandboxes("uid-whole")] == [identity]
        assert await runtime.list_sandboxes("uid-other") == []

        await runtime.stop_sandbox(identity)
        assert not (await runtime.sandbox_status(identity)).ready
        await runtime.stop_sandbox(identity)

        await runtime.remove_sandbox(identity)
        with pytest.raises(RuntimeNotFound):
            await runtime.sandbox_status(identity)
        await runtime.stop_sandbox(identity)
        await runtime.remove_sandbox(identity)

    run(body)


def test_a_sandbox_on_the_nodes_network_has_no_address_of_its_own(run: Run, tmp_path: Path) -> None:
    async def body(runtime: Any) -> None:
        config = sandbox_config("host", tmp_path)
        config["linux"]["security_context"]["namespace_options"]["network"] = 2
        del config["hostname"]
        identity = await runtime.run_sandbox(config)
        status = await runtime.sandbox_status(identity)
        assert status.host_network
        assert status.ips == ()
        await runtime.stop_sandbox(identity)
        await runtime.remove_sandbox(identity)

    run(body)


def test_a_container_is_created_then_runs_then_is_stopped(run: Run, tmp_path: Path) -> None:
    async def body(runtime: Any) -> None:
        config = sandbox_config("life", tmp_path)
        sandbox_id = await runtime.run_sandbox(config)
        wanted = container_config(config, "sleep", "1000")
        identity = await runtime.create_container(sandbox_id, wanted, config)
        created = await runtime.container_status(identity)
        assert created.state is ContainerState.CREATED
        assert (created.started_at, created.finished_at) == (0.0, 0.0)

        await runtime.start_container(identity)
        running = await runtime.container_status(identity)
        assert running.state is ContainerState.RUNNING
        assert running.started_at >= created.created_at
        assert (running.name, running.attempt) == ("main", 3)
        assert running.annotations["io.kubernetes.container.restartCount"] == "3"
        assert running.log_path == f"{tmp_path}/main/0.log"
        assert running.image == IMAGE
        listed = await runtime.list_containers("uid-life")
        assert [(c.id, c.sandbox_id, c.state) for c in listed] == [(identity, sandbox_id, ContainerState.RUNNING)]

        with pytest.raises(RuntimeFailure):
            await runtime.start_container(identity)

        await runtime.stop_container(identity, 1)
        ended = await runtime.container_status(identity)
        assert ended.state is ContainerState.EXITED
        assert ended.exit_code != 0
        assert ended.finished_at >= running.started_at
        await runtime.stop_container(identity, 1)

        await runtime.remove_container(identity)
        with pytest.raises(RuntimeNotFound):
            await runtime.container_status(identity)
        await runtime.remove_container(identity)
        await runtime.remove_sandbox(sandbox_id)

    run(body)


def test_a_checkpoint_is_made_or_refused_as_such(run: Run, tmp_path: Path) -> None:
    async def body(runtime: Any) -> None:
        sandbox_id, identity = await start(runtime, tmp_path, "kept", "sleep", "1000")
        with contextlib.suppress(RuntimeUnsupported):  # containerd before 2.0
            await runtime.checkpoint_container(identity, str(tmp_path / "archive.tar"))
        assert (await runtime.container_status(identity)).state is ContainerState.RUNNING
        await runtime.remove_sandbox(sandbox_id)

    run(body)


def test_the_exit_code_is_kept(run: Run, tmp_path: Path) -> None:
    async def body(runtime: Any) -> None:
        sandbox_id, failed = await start(runtime, tmp_path, "code", "sh", "-c", "exit 3")
        status = await until_exited(runtime, failed)
        assert (status.exit_code, status.reason) == (3, "Error")
        await runtime.remove_sandbox(sandbox_id)

        sandbox_id, well = await start(runtime, tmp_path, "well", "true")
        status = await until_exited(runtime, well)
        assert (status.exit_code, status.reason) == (0, "Completed")
        await runtime.remove_sandbox(sandbox_id)

    run(body)


def test_stopping_the_sandbox_ends_its_containers_and_removing_it_removes_them(run: Run, tmp_path: Path) -> None:
    async def body(runtime: Any) -> None:
        sandbox_id, identity = await start(runtime, tmp_path, "down", "sleep", "1000")
        await runtime.stop_sandbox(sandbox_id)
        assert (await runtime.container_status(identity)).state is ContainerState.EXITED
        await runtime.remove_sandbox(sandbox_id)
        with pytest.raises(RuntimeNotFound):
            await runtime.container_status(identity)

    run(body)


def test_the_end_of_a_container_is_told_at_once(run: Run, tmp_path: Path) -> None:
    async def body(runtime: Any) -> None:
        told: asyncio.Queue[str] = asyncio.Queue()

        async def listen() -> None:
            async for event in runtime.events():
                if event.type is EventType.STOPPED:
                    told.put_nowait(event.container_id)

        listener = asyncio.create_task(listen())
        await asyncio.sleep(0.05)
        sandbox_id, identity = await start(runtime, tmp_path, "event", "sh", "-c", "sleep 0.2; exit 1")
        async with asyncio.timeout(60):
            while await told.get() != identity:
                pass
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
        await runtime.remove_sandbox(sandbox_id)

    run(body)


def test_exec(run: Run, tmp_path: Path) -> None:
    async def body(runtime: Any) -> None:
        sandbox_id, identity = await start(runtime, tmp_path, "exec", "sleep", "1000")
        done = await runtime.exec_sync(identity, ["echo", "hello"])
        assert (done.stdout, done.exit_code) == (b"hello\n", 0)
        assert (await runtime.exec_sync(identity, ["sh", "-c", "exit 4"])).exit_code == 4
        with pytest.raises(RuntimeTimeout):
            await runtime.exec_sync(identity, ["sleep", "100"], 1)
        await runtime.stop_container(identity, 1)
        with pytest.raises(RuntimeFailure):
            await runtime.exec_sync(identity, ["true"])
        await runtime.remove_sandbox(sandbox_id)

    run(body)


def test_images(run: Run) -> None:
    async def body(runtime: Any) -> None:
        found = await runtime.image_status(IMAGE)
        assert found is not None
        assert found.size > 0
        assert IMAGE in {tag for image in await runtime.list_images() for tag in image.tags}
        assert await runtime.image_status(MISSING) is None
        with pytest.raises(RuntimeFailure):
            await runtime.pull_image(MISSING)
        await runtime.image_filesystems()

    run(body)


def test_figures_name_the_container(run: Run, tmp_path: Path) -> None:
    async def body(runtime: Any) -> None:
        sandbox_id, identity = await start(runtime, tmp_path, "stats", "sleep", "1000")
        found = {s.id: s for s in await runtime.list_container_stats()}
        assert found[identity].labels["io.kubernetes.container.name"] == "main"
        assert sandbox_id in {s.id for s in await runtime.list_sandbox_stats()}
        await runtime.stop_sandbox(sandbox_id)
        await runtime.remove_sandbox(sandbox_id)

    run(body)
