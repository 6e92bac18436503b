"""Images from a registry: by tag and digest, by a mirror, and what is not there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.registry import registry, skip_without_registry
from tests.kubelet.test_containerd import WAITS, Machine, machine, shell
from tests.kubelet.world import pod
from tiphys.cluster.images import demo_image, import_built
from tiphys.cluster.ocilayout import File
from tiphys.kubelet.runtime.ctr import ctr

__all__ = ["machine"]
pytestmark = [pytest.mark.e2e, pytest.mark.root]
PODS = "/api/v1/namespaces/default/pods"


async def push(m: Machine, image: str) -> str:
    """Put an image of which the node has no layer into a registry; returns its digest. The node forgets it."""
    socket = Path(m.kubelet.config.runtime_socket)
    demo = demo_image(image)
    await import_built(socket, replace(demo, files=[*demo.files, File("filler", os.urandom(1 << 20))]))
    await ctr(socket, "images", "push", "--plain-http", image)
    [line] = [line for line in (await ctr(socket, "images", "list")).splitlines() if line.startswith(f"{image} ")]
    await ctr(socket, "images", "remove", "--sync", image)
    return next(word for word in line.split() if word.startswith("sha256:"))


def asking(name: str, image: str) -> dict[str, Any]:
    return pod(name, {**shell("main", WAITS), "image": image, "imagePullPolicy": "Always"})


def waiting(m: Machine, name: str) -> dict[str, Any]:
    statuses = m.status(name).get("containerStatuses") or [{}]
    return dict((statuses[0].get("state") or {}).get("waiting") or {})


def test_by_tag_by_digest_by_a_mirror_and_what_is_not_there(machine: Any, tmp_path: Path) -> None:
    skip_without_registry()

    async def scene(m: Machine) -> None:
        async with registry(tmp_path / "registry") as port:
            host = f"127.0.0.1:{port}"
            digest = await push(m, f"{host}/team/demo:1")
            mirrors = tmp_path / "c" / "data" / "registries" / "far.example"
            mirrors.mkdir(parents=True)
            (mirrors / "hosts.toml").write_text(f'server = "http://127.0.0.1:1"\n[host."http://{host}"]\n')
            images = {
                "tag": f"{host}/team/demo:1",
                "digest": f"{host}/team/demo@{digest}",
                "mirror": "far.example/team/demo:1",
            }
            for name, image in images.items():
                m.api.put(PODS, asking(name, image))
            m.api.put(PODS, asking("unknown", f"{host}/team/other:1"))
            for name in images:
                await m.until(lambda name=name: m.ready(name))  # type: ignore[misc]
                assert digest in m.status(name)["containerStatuses"][0]["imageID"]
            await m.until(lambda: waiting(m, "unknown").get("reason") == "ErrImagePull")
            assert f"{host}/team/other:1: not found" in waiting(m, "unknown")["message"]
            await m.until(lambda: waiting(m, "unknown").get("reason") == "ImagePullBackOff")
            reasons = {reason for reason, _ in m.api.events()}
            assert {"Pulling", "Pulled", "Failed", "BackOff"} <= reasons
            await end(m, *images, "unknown")

    machine(scene)


async def end(m: Machine, *names: str) -> None:
    for name in names:
        m.api.delete_pod(name, grace=1)
    await m.until(lambda: not any(m.api.has_pod(name) for name in names))
