"""Devices of plugins and of claims in real containers: drivers that speak gRPC, scheduler, kubelet, containerd."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.deviceplugin import Plugin, plugged
from tests.kubelet.dradriver import NAME, DraDriver
from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine
from tiphys.cluster.images import DEMO_IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")]

PODS = f"""
apiVersion: v1
kind: Pod
metadata: {{name: with-plugin}}
spec:
  containers:
  - name: main
    image: {DEMO_IMAGE}
    command: [sh, -c, "echo devices $DEVICES; test -c /dev/g1 && echo there; sleep 1000"]
    resources: {{limits: {{example.com/gpu: 1}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: with-claim}}
spec:
  resourceClaims: [{{name: dev, resourceClaimTemplateName: one-device}}]
  containers:
  - name: main
    image: {DEMO_IMAGE}
    command: [sh, -c, "echo claim $DRA_CLAIM; test -c /dev/dra && echo there; sleep 1000"]
    resources: {{claims: [{{name: dev, request: r}}]}}
"""

EXTENDED = f"""
apiVersion: v1
kind: Pod
metadata: {{name: with-class}}
spec:
  containers:
  - name: main
    image: {DEMO_IMAGE}
    command: [sh, -c, "echo claim $DRA_CLAIM; test -c /dev/dra && echo there; sleep 1000"]
    resources: {{limits: {{example.com/fast: 1}}}}
"""

CLAIMS = f"""
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {{name: fast}}
spec:
  extendedResourceName: example.com/fast
  selectors: [{{cel: {{expression: device.driver == "{NAME}"}}}}]
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {{name: one-device}}
spec:
  spec: {{devices: {{requests: [{{name: r, exactly: {{deviceClassName: fast}}}}]}}}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {{name: slice}}
spec:
  driver: {NAME}
  nodeName: NODE
  pool: {{name: p, generation: 1, resourceSliceCount: 1}}
  devices: [{{name: d}}]
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machine]:
    with new_machine("devices") as machine:
        machine.tiphys("up", timeout=180)
        yield machine


@contextmanager
def drivers(kubelet: Path, cdi: Path) -> Iterator[DraDriver]:
    """A device plugin and a driver of claims, in a loop of their own."""
    driver, started, ended = DraDriver(cdi=cdi), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(plugged(Plugin("example.com/gpu", ["g1"]), kubelet / "device-plugins"))
            await stack.enter_async_context(driver.served(kubelet))
            started.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(30)
        yield driver
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def test_devices_of_plugins_and_of_claims(cluster: Machine) -> None:
    cdi = Path("/var/run/cdi")
    cdi.mkdir(parents=True, exist_ok=True)

    def allocatable() -> Any:
        return cluster.get("nodes")["items"][0]["status"]["allocatable"].get("example.com/gpu")

    def logs(name: str) -> str:
        return cluster.kubectl("logs", name, check=False)

    with drivers(cluster.folder / "data" / "kubelet", cdi) as driver:
        wait_for(lambda: allocatable() == "1" and driver.registered == [""], 60, "both drivers' registration")
        node = cluster.get("nodes")["items"][0]["metadata"]["name"]
        cluster.apply(CLAIMS.replace("NODE", node))
        cluster.apply(PODS)
        wait_for(lambda: "there" in logs("with-plugin") and "there" in logs("with-claim"), 90, "both pods' devices")
        assert "devices g1" in logs("with-plugin")
        [claim] = cluster.get("resourceclaims")["items"]
        assert f"claim {claim['metadata']['name']}" in logs("with-claim")
        assert claim["status"]["allocation"]["devices"]["results"][0]["device"] == "d"
        cluster.kubectl("delete", "pod", "with-plugin", "with-claim", "--grace-period=1")
        assert driver.unprepared == driver.prepared == [claim["metadata"]["name"]]
        wait_for(lambda: not cluster.get("resourceclaims")["items"], 60, "the end of the claim")
        driver.requests = []
        cluster.apply(EXTENDED)
        wait_for(lambda: "there" in logs("with-class"), 90, "a device as an extended resource")
        made = cluster.get("pod", "with-class")["status"]["extendedResourceClaimStatus"]["resourceClaimName"]
        assert f"claim {made}" in logs("with-class")
        cluster.kubectl("delete", "pod", "with-class", "--grace-period=1")
        assert driver.unprepared[-1] == made
        wait_for(lambda: not cluster.get("resourceclaims")["items"], 60, "the end of the claim for extended resources")
        cluster.kubectl("delete", "resourceslice/slice", "deviceclass/fast", "resourceclaimtemplate/one-device")
