"""Debian's Prometheus scrapes a control plane of real processes: every target is up, and what the rules and dashboards
of the Kubernetes mixin ask of these components is there, by name and labels."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane import COMPONENTS, control_plane, free_port

ASKED = {
    "kube-apiserver": (
        'apiserver_request_total{verb="LIST",code="200",resource="pods"}',
        'apiserver_request_sli_duration_seconds_bucket{verb="LIST",scope="cluster",le="1.0",subresource=""}',
        "apiserver_request_sli_duration_seconds_count",
        "apiserver_storage_objects",
        'apiserver_client_certificate_expiration_seconds_bucket{le="86400.0"}',
    ),
    "kube-controller-manager": (
        *("workqueue_adds_total{name!=''}", "workqueue_depth{name!=''}", "workqueue_queue_duration_seconds_bucket"),
        'rest_client_requests_total{code=~"2..",method="GET",host!=""}',
        'rest_client_request_duration_seconds_bucket{verb="GET",host!="",le="1.0"}',
    ),
    "kube-scheduler": (
        "scheduler_scheduling_algorithm_duration_seconds_bucket",
        "scheduler_pod_scheduling_attempts_bucket",
        'rest_client_requests_total{code=~"2.."}',
        'scheduler_pending_pods{queue="active"}',
    ),
}
EVERYWHERE = ("kubernetes_build_info{git_version!=''}", "process_cpu_seconds_total", "process_resident_memory_bytes",
              "go_goroutines")  # fmt: skip


def configuration(ports: dict[str, int]) -> dict[str, Any]:
    jobs = [
        {
            "job_name": name,
            "scheme": "https",
            "tls_config": {"insecure_skip_verify": True},
            "authorization": {"credentials": "token-watcher"},
            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
        }
        for name, port in ports.items()
    ]
    return {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}


def query(port: int, text: str) -> list[Any]:
    address = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': text})}"
    with urllib.request.urlopen(address, timeout=10) as answer:
        found: list[Any] = json.load(answer)["data"]["result"]
    return found


def wanted() -> list[str]:
    texts = [f'up{{job="{name}"}} == 1' for name in COMPONENTS]
    for name in COMPONENTS:
        for text in (*ASKED[name], *EVERYWHERE):
            metric, brace, labels = text.partition("{")
            labels = labels if brace else "}"
            texts.append(f'{metric}{{job="{name}",{labels}' if " " not in metric else metric)
    return texts


@pytest.mark.e2e
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's package prometheus")
def test_every_target_is_up_and_nothing_that_is_asked_for_is_missing(tmp_path: Path) -> None:
    port = free_port()
    with control_plane(tmp_path) as plane:
        plane.get("kube-apiserver", "/api/v1/pods", user="admin")
        (tmp_path / "prometheus.json").write_text(json.dumps(configuration(plane.ports)))
        with (tmp_path / "prometheus.log").open("wb") as log:
            prometheus = subprocess.Popen(
                ["prometheus", "--config.file=prometheus.json", f"--web.listen-address=127.0.0.1:{port}",
                 "--storage.tsdb.path=series"],
                cwd=tmp_path, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            missing, deadline = wanted(), time.monotonic() + 60
            while missing and time.monotonic() < deadline:
                time.sleep(0.5)
                try:
                    missing = [text for text in missing if not query(port, text)]
                except OSError:
                    assert prometheus.poll() is None, (tmp_path / "prometheus.log").read_text()
            assert missing == []
        finally:
            prometheus.terminate()
            prometheus.wait()
