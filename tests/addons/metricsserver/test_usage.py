"""From what kubelets say to what the API shows: windows, restarts, missing parts, quantities."""

from __future__ import annotations

import pytest

from tiphys.addons.metricsserver.exposition import Point, Sample, read
from tiphys.addons.metricsserver.usage import Rate, Usage
from tiphys.addons.metricsserver.views import duration, node_metrics, pod_metrics, usage

TEXT = b"""\
# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="c",namespace="n",pod="p"} 4.710169 1767225600000
container_cpu_usage_seconds_total{container="gone",namespace="n",pod="p"} 0 1767225600000
container_memory_working_set_bytes{container="c",namespace="n",pod="p"} 1.253376e+06 1767225600000
container_memory_working_set_bytes{container="gone",namespace="n",pod="p"} 0 1767225600000
container_memory_working_set_bytes{container="half",namespace="n",pod="p"} 5 1767225600000
container_start_time_seconds{container="c",namespace="n",pod="p"} 1.767225e+09
node_cpu_usage_seconds_total 357.35491 1767225600123
node_memory_working_set_bytes 1.616273408e+09 1767225600123
pod_cpu_usage_seconds_total{namespace="n",pod="p"} 7 1767225600000
resource_scrape_error 0
nonsense{ 1
"""


def test_reading_what_a_kubelet_says() -> None:
    sample = read(TEXT, 5.0)
    assert sample.node == Point(1767225600.123, 357.35491, 1616273408)
    assert sample.containers == {("n", "p", "c"): Point(1767225600.0, 4.710169, 1253376, 1767225000.0)}
    assert read(b"node_cpu_usage_seconds_total 1\nnode_memory_working_set_bytes 2\n", 5.0).node == Point(5.0, 1.0, 2)


def sample(at: float, cpu: float, memory: int = 1024, started: float = 1.0, **containers: float) -> Sample:
    points = {("n", "p", name): Point(at, used, memory, started) for name, used in containers.items()}
    return Sample(Point(at, cpu, memory), points)


def test_use_is_what_lies_between_two_measurements() -> None:
    usage = Usage()
    usage.store({"a": sample(1000, 10, c=1)})
    assert (usage.node("a"), usage.pod("n", "p"), usage.is_ready) == (None, None, False)
    usage.store({"a": sample(1015, 13, memory=2048, c=1.5)})
    assert usage.node("a") == Rate(1015, 15, 200_000_000, 2048)
    assert usage.pod("n", "p") == {"c": Rate(1015, 15, 33_333_333, 2048)}
    assert usage.is_ready
    usage.store({"a": sample(1015, 13, memory=2048, c=1.5)})
    assert usage.node("a") == Rate(1015, 15, 200_000_000, 2048), "the kubelet had nothing new"


def test_a_pod_is_shown_when_each_container_has_a_rate() -> None:
    usage = Usage()
    usage.store({"a": sample(1000, 1, c=1)})
    usage.store({"a": sample(1015, 2, c=2, d=1)})
    assert usage.pod("n", "p") is None
    usage.store({"a": sample(1030, 3, c=3, d=2)})
    assert set(usage.pod("n", "p") or ()) == {"c", "d"}


def test_a_restarted_container_counts_from_its_start() -> None:
    usage = Usage()
    usage.store({"a": sample(1000, 1, c=50)})
    usage.store({"a": sample(1015, 1, c=60)})
    usage.store({"a": sample(1045, 1, started=1025.0, c=2)})
    assert usage.pod("n", "p") == {"c": Rate(1045, 20, 100_000_000, 1024)}
    usage.store({"a": sample(1060, 1, started=1055.0, c=0.1)})
    assert usage.pod("n", "p") is None, "five seconds of life say little"


def test_what_nobody_reports_is_forgotten() -> None:
    usage = Usage()
    for at in (1000, 1015):
        usage.store({"a": sample(at, at / 10, c=at / 10), "b": sample(at, at / 10)})
    usage.store({"b": sample(1030, 103)})
    assert usage.node("a") is None
    assert usage.pod("n", "p") is None
    assert usage.node("b") is not None
    assert list(usage.pods()) == []


@pytest.mark.parametrize(
    ("cpu", "memory", "shown"),
    [
        (0, 0, {"cpu": "0", "memory": "0"}),
        (1, 1023, {"cpu": "1n", "memory": "1023"}),
        (123_456_789, 1024, {"cpu": "123456789n", "memory": "1Ki"}),
        (250_000_000, 3 * 1024 * 1024, {"cpu": "250m", "memory": "3Mi"}),
        (2_000_000_000, 1536 * 1024, {"cpu": "2", "memory": "1536Ki"}),
    ],
)
def test_quantities(cpu: int, memory: int, shown: dict[str, str]) -> None:
    assert usage(Rate(0, 15, cpu, memory)) == shown


def test_objects() -> None:
    node = {"metadata": {"name": "a", "uid": "u", "labels": {"k": "v"}}}
    assert node_metrics(node, Rate(1767225600, 15.0204, 1000, 1024), 1767225610) == {
        "kind": "NodeMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:10Z", "labels": {"k": "v"}},
        "timestamp": "2026-01-01T00:00:00Z",
        "window": "15.02s",
        "usage": {"cpu": "1u", "memory": "1Ki"},
    }
    pod = {"metadata": {"name": "p", "namespace": "n"}}
    rates = {"d": Rate(1767225600, 15, 1, 1), "c": Rate(1767225590, 60.5, 2, 2)}
    shown = pod_metrics(pod, rates, 1767225610)
    assert (shown["timestamp"], shown["window"]) == ("2025-12-31T23:59:50Z", "1m0.5s")
    assert [container["name"] for container in shown["containers"]] == ["c", "d"]


@pytest.mark.parametrize(("seconds", "text"), [(15, "15s"), (15.0204, "15.02s"), (60, "1m0s"), (125.5, "2m5.5s")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
