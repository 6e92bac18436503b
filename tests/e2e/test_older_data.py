"""A cluster of an earlier release is started by this one: from a data directory that commit 8fd63f4 left.

It was recorded after `tiphys up`, a Deployment of two pods with a Service, a ConfigMap and a Secret, and `tiphys down`:
the settings, the certificates, and the store, whose file has format 1.
"""

from __future__ import annotations

import json
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine

pytestmark = pytest.mark.e2e

RECORDED = Path(__file__).parent / "data/cluster-8fd63f4.tar.xz"


@pytest.fixture
def cluster() -> Iterator[Machine]:
    with new_machine("tiphys-older") as made:
        data = made.folder / "data"
        with tarfile.open(RECORDED) as recorded:
            recorded.extractall(data, filter="data")
        settings = data / "cluster.json"
        moved = {"data_dir": str(data), "run_dir": str(data / "run")}
        settings.write_text(json.dumps({**json.loads(settings.read_text()), **moved}))
        yield made


def recorded_objects(database: Path) -> dict[str, str]:
    """The uid of each object in a store's file, by its key."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT key, value FROM kv ORDER BY row").fetchall()
    newest = dict(rows)
    return {
        key.decode(): json.loads(value)["metadata"]["uid"]
        for key, value in newest.items()
        if value and key.startswith((b"/registry/configmaps/default/", b"/registry/secrets/default/"))
    }


def test_its_objects_its_workloads_and_its_identity_are_there(cluster: Machine) -> None:
    database = cluster.folder / "data/etcd/tiphys.db"
    before = recorded_objects(database)
    assert "/registry/configmaps/default/kept" in before
    authority = (cluster.folder / "data/pki/ca.crt").read_bytes()
    started = time.monotonic()
    cluster.tiphys("up", timeout=180)
    took = time.monotonic() - started
    for key, uid in before.items():
        _, _, kind, namespace, name = key.split("/")
        assert cluster.get(kind, "-n", namespace, name)["metadata"]["uid"] == uid
    assert cluster.get("configmap", "kept")["data"] == {"word": "argo"}
    assert (cluster.folder / "data/pki/ca.crt").read_bytes() == authority
    kept = database.with_name("tiphys.db.format-1")  # what the file was before
    assert recorded_objects(kept) == before
    assert kept.stat().st_mode & 0o777 == 0o600
    wait_for(lambda: cluster.get("deployment", "web")["status"].get("readyReplicas") == 2, 60, "the workload")
    address = cluster.get("service", "web")["spec"]["clusterIP"]
    wait_for(
        lambda: cluster.run("curl", "-s", "--max-time", "2", f"http://{address}/", check=False).returncode == 0, 30
    )
    print(f"up after {took:.1f} s, the workload of two pods ready {time.monotonic() - started:.1f} s after the start")
