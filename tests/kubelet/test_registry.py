"""Images from a registry: by tag and digest, with a login, by a mirror, and what is not there."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.registry import PASSWORD, USER, registry, skip_without_registry
from tests.kubelet.test_containerd import WAITS, Machine, machine, shell
from tests.kubelet.test_image_providers import ANSWER, CONFIG, entry, program
from tests.kubelet.world import pod
from tiphys.cluster.images import demo_image, import_built
from tiphys.cluster.ocilayout import File
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.runtime.ctr import ctr

__all__ = ["machine"]
pytestmark = [pytest.mark.e2e, pytest.mark.root]
PODS, SECRETS = "/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/secrets"


async def push(m: Machine, image: str, *words: str) -> str:
    """Put an image of which the node has no layer into a registry; returns its digest. The node forgets it."""
    socket = Path(m.kubelet.config.runtime_socket)
    demo = demo_image(image)
    await import_built(socket, replace(demo, files=[*demo.files, File("filler", os.urandom(1 << 20))]))
    await ctr(socket, "images", "push", "--plain-http", *words, image)
    [line] = [line for line in (await ctr(socket, "images", "list")).splitlines() if line.startswith(f"{image} ")]
    await ctr(socket, "images", "remove", "--sync", image)
    return next(word for word in line.split() if word.startswith("sha256:"))


def asking(name: str, image: str, policy: str = "Always", **more: Any) -> dict[str, Any]:
    return pod(name, {**shell("main", WAITS), "image": image, "imagePullPolicy": policy}, **more)


def put_secret(m: Machine, name: str, host: str, password: str) -> list[dict[str, str]]:
    """A Secret with a password for a registry; returns how pods name it."""
    auths = {"auths": {host: {"username": USER, "password": password}}}
    text = base64.b64encode(json.dumps(auths).encode()).decode()
    meta, kind = {"name": name, "namespace": "default"}, "kubernetes.io/dockerconfigjson"
    m.api.put(SECRETS, {"kind": "Secret", "type": kind, "metadata": meta, "data": {".dockerconfigjson": text}})
    return [{"name": name}]


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


def test_with_a_login(machine: Any, tmp_path: Path) -> None:
    skip_without_registry()

    async def scene(m: Machine) -> None:
        async with registry(tmp_path / "registry", login=True) as port:
            host = f"127.0.0.1:{port}"
            image = f"{host}/team/demo:1"
            await push(m, image, "--user", f"{USER}:{PASSWORD}")
            right, wrong = put_secret(m, "right", host, PASSWORD), put_secret(m, "wrong", host, "guess")
            m.api.put(PODS, asking("wrong", image, imagePullSecrets=wrong))
            m.api.put(PODS, asking("both", image, imagePullSecrets=wrong + right))
            m.api.put(PODS, asking("without", image))
            await m.until(lambda: m.ready("both"))
            for name in ("wrong", "without"):
                await m.until(lambda name=name: "Pull" in waiting(m, name).get("reason", ""))  # type: ignore[misc]
                assert "401 Unauthorized" in waiting(m, name)["message"]
            # The image is here now, and for those alone who have shown that they may pull it.
            m.api.put(PODS, asking("never", image, "Never"))
            m.api.put(PODS, asking("shown", image, "Never", imagePullSecrets=right))
            await m.until(lambda: m.ready("shown") and waiting(m, "never").get("reason") == "ErrImageNeverPull")
            await end(m, "wrong", "both", "without", "never", "shown")

    machine(scene)


def test_with_a_program_that_knows_the_password(machine: Any, tmp_path: Path) -> None:
    skip_without_registry()
    folder, file = tmp_path / "bin", tmp_path / "providers.yaml"

    def adjust(config: KubeletConfig) -> None:
        config.provider_config, config.provider_folder = str(file), str(folder)

    async def scene(m: Machine) -> None:
        async with registry(tmp_path / "registry", login=True) as port:
            host = f"127.0.0.1:{port}"
            image = f"{host}/team/demo:1"
            await push(m, image, "--user", f"{USER}:{PASSWORD}")
            answer = {**ANSWER, "auth": {host: {"username": USER, "password": PASSWORD}}}
            program(folder, "knows", f"echo '{json.dumps(answer)}'")
            program(folder, "fails", "exit 1")
            file.write_text(f"{CONFIG}providers:\n{entry('fails', host)}{entry('knows', host)}")
            await m.stop()
            await m.start(adjust)
            m.api.put(PODS, asking("one", image))
            await m.until(lambda: m.ready("one"))
            m.api.put(PODS, asking("two", image, "Never"))  # the node's credentials are every pod's
            await m.until(lambda: m.ready("two"))
            await end(m, "one", "two")

    machine(scene)


async def end(m: Machine, *names: str) -> None:
    for name in names:
        m.api.delete_pod(name, grace=1)
    await m.until(lambda: not any(m.api.has_pod(name) for name in names))
