"""`tiphys top`: what is computed from two looks, and that a hostile event cannot steer the terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tiphys.cli.observe.figures import (
    LATENCY,
    OBJECTS,
    REQUESTS,
    Look,
    amount,
    node_rows,
    pod_rows,
    quantile,
    rates,
    read_samples,
    values,
)

PAGE = """
# TYPE apiserver_request_total counter
apiserver_request_total{verb="GET",code="200",resource="pods"} 10
apiserver_request_total{verb="GET",code="404",resource="pods"} 5
apiserver_request_total{verb="POST",code="201",resource="pods"} 1
# TYPE apiserver_request_sli_duration_seconds histogram
apiserver_request_sli_duration_seconds_bucket{verb="GET",le="0.1"} 90
apiserver_request_sli_duration_seconds_bucket{verb="GET",le="0.2"} 98
apiserver_request_sli_duration_seconds_bucket{verb="GET",le="+Inf"} 100
# TYPE apiserver_storage_objects gauge
apiserver_storage_objects{resource="pods"} 7
# TYPE other gauge
other 1
"""


def test_samples_are_summed_by_what_they_are_shown_by() -> None:
    samples = read_samples(PAGE)
    assert rates({}, samples, 2.0, REQUESTS) == {"GET": 7.5, "POST": 0.5}
    assert values(samples, OBJECTS) == {"pods": 7.0}
    assert not any(name == "other" for name, _, _ in samples)


def test_a_counter_that_began_again_counts_from_zero() -> None:
    before = {(REQUESTS, "GET", ""): 1000.0}
    assert rates(before, read_samples(PAGE), 1.0, REQUESTS)["GET"] == 15.0
    assert rates(before, before, 0.0, REQUESTS) == {"GET": 0.0}


@pytest.mark.parametrize(("share", "seconds"), [(0.5, 0.1 * 50 / 90), (0.94, 0.15), (0.99, 0.2)])
def test_quantiles_are_those_of_promql(share: float, seconds: float) -> None:
    assert quantile({}, read_samples(PAGE), LATENCY, share) == pytest.approx(seconds)


def test_without_requests_there_is_no_latency() -> None:
    samples = read_samples(PAGE)
    assert quantile(samples, samples, LATENCY, 0.99) is None
    assert quantile({}, {}, LATENCY, 0.99) is None


def node(name: str, ready: str = "True", **spec: Any) -> Any:
    status = {"conditions": [{"type": "Ready", "status": ready}], "allocatable": {"cpu": "2", "memory": "4Gi"}}
    return {"metadata": {"name": name}, "spec": spec, "status": status}


def pod(name: str, phase: str = "Running") -> Any:
    return {"metadata": {"name": name, "namespace": "x"}, "spec": {"nodeName": "n1"}, "status": {"phase": phase}}


def usage(name: str, cpu: str, memory: str) -> Any:
    return {
        "metadata": {"name": name, "namespace": "x"},
        "usage": {"cpu": cpu, "memory": memory},
        "containers": [{"usage": {"cpu": cpu, "memory": memory}}],
    }


def a_look(**more: Any) -> Look:
    return Look(
        1.0,
        nodes=[node("n1"), node("n2", "Unknown", unschedulable=True)],
        pods=[pod("a"), pod("b", "Succeeded")],
        node_usage=[usage("n1", "500m", "1Gi")],
        pod_usage=[usage("a", "1500u", "10Mi"), usage("c", "20m", "1Ki")],
        **more,
    )


def test_nodes_and_pods_in_numbers() -> None:
    first, second = node_rows(a_look())
    assert (first.state, first.cpu, first.cpu_total, first.memory, first.pods) == ("Ready", 0.5, 2.0, 2.0**30, 1)
    assert (second.state, second.cpu, second.memory) == ("NotReady,cordoned", None, None)
    assert [(row.name, row.cpu) for row in pod_rows(a_look(), 5)] == [("c", 0.02), ("a", 0.0015)]
    assert (amount(None), amount("nonsense"), amount("1k")) == (0.0, 0.0, 1000.0)


def test_the_picture_is_text_whatever_a_cluster_says() -> None:
    rich_console = pytest.importorskip("rich.console")
    from tiphys.cli.observe.top import picture

    event = {
        "metadata": {"creationTimestamp": "2026-11-30T20:00:00Z"},
        "involvedObject": {"kind": "Pod", "name": "[red]a"},
        "type": "Warning",
        "reason": "BackOff",
        "message": "\x1b]0;owned\x07[bold]not a style",
    }
    output = io.StringIO()
    console = rich_console.Console(file=output, width=120, force_terminal=False)
    console.print(
        picture(a_look(), a_look(samples=read_samples(PAGE), events=[event], troubles=["usage: denied"]), 120)
    )
    shown = output.getvalue()
    assert "\x1b" not in shown
    for words in ("2 nodes", "1 of 2 pods running", "0.50 of 2", "[bold]not a style", "[red]a", "usage: denied"):
        assert words in shown
