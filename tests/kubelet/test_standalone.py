"""A kubelet without an API server."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.test_static_url import manifest, running
from tests.kubelet.world import World, virtual_loop
from tiphys.client.resources import PODS
from tiphys.client.rest import Client
from tiphys.kubelet.command import configuration, parser
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.standalone import NoApiServer
from tiphys.runtime.clock import VirtualClock
from tiphys.runtime.component import CannotStart

ALONE = ("--authentication-token-webhook=false", "--authorization-mode=AlwaysAllow")


def test_what_cannot_be_had_is_refused() -> None:
    assert configuration(parser().parse([*ALONE]))[0].standalone
    assert not configuration(parser().parse(["--kubeconfig=k"]))[0].standalone
    with pytest.raises(CannotStart) as caught:
        configuration(parser().parse([]))
    assert str(caught.value) == (
        "no client provided, cannot use webhook authentication; no client provided, cannot use webhook authorization"
    )
    with pytest.raises(CannotStart, match="serverTLSBootstrap needs an API server"):
        configuration(parser().parse([*ALONE, "--rotate-server-certificates"]))


def test_nobody_is_asked() -> None:
    with pytest.raises(ConnectionError, match="standalone mode"):
        asyncio.run(Client(NoApiServer()).get(PODS, "web", "default"))


def phases(world: World) -> list[str]:
    return [str(pod["status"].get("phase")) for pod in world.kubelet.all_pods()]


def test_static_pods_run_change_and_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()

    def adjust(config: KubeletConfig) -> None:
        config.standalone, config.static_pod_path, config.file_check_frequency = True, folder, 1.0

    def write(name: str, **more: Any) -> None:
        (folder / f"{name}.yaml").write_text(json.dumps(manifest(name, **more)))

    async def scene(world: World) -> None:
        write("web")
        task = asyncio.ensure_future(world.kubelet.run())
        try:
            await world.until(lambda: world.started("main") == 1)
            [first] = await running(world)
            write("web", image="web:2")
            write("other")
            await world.until(lambda: world.started("main") == 3)
            while first in await running(world):
                await asyncio.sleep(1)
            await world.until(lambda: phases(world) == ["Running", "Running"])
            (folder / "other.yaml").unlink()
            while len(await running(world)) > 1:
                await asyncio.sleep(1)
            assert (world.kubelet.unhealthy(), world.api.objects) == ("", {})
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await world.runtime.close()

    with virtual_loop() as loop, caplog.at_level(logging.INFO):
        world = World(tmp_path, VirtualClock(loop), adjust=adjust)
        world.api.down = True
        loop.run_until_complete(scene(world))
    assert "Started: Container started" in caplog.text
