"""What `tiphys up` does once before it forks: it leaves the process as one that forks safely."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path

import pytest

from tiphys.cli.programs.warmup import warm_up
from tiphys.cluster.credentials import ensure_kubeconfigs
from tiphys.cluster.pki import ensure_pki
from tiphys.cluster.settings import Settings


@pytest.fixture
def cluster(tmp_path: Path) -> Settings:
    settings = Settings(data_dir=tmp_path / "data", run_dir=tmp_path / "run")
    ensure_pki(settings)
    ensure_kubeconfigs(settings)
    return settings


def test_it_leaves_no_thread_descriptor_or_handler_and_says_nothing(
    cluster: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    warm_up(cluster)  # the first one opens what stays open: the source of random numbers
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing)
    try:
        threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
        with caplog.at_level(logging.INFO):
            warm_up(cluster)
        assert threading.active_count() == threads
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert caplog.messages == []
    finally:
        assert signal.set_wakeup_fd(before) == writing
        os.close(reading)
        os.close(writing)


def test_without_certificates_the_start_goes_on_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    warm_up(Settings(data_dir=tmp_path))
    assert "without a warm-up" in caplog.text
