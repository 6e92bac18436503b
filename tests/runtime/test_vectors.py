"""Counters and histograms as a scrape shows them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from tiphys.runtime.vectors import CounterVec, GaugeVec, HistogramVec, exponential


def shown(vector: CounterVec | GaugeVec | HistogramVec) -> list[str]:
    registry = CollectorRegistry()
    registry.register(vector)  # type: ignore[arg-type]
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_a_counter_shows_each_set_of_labels() -> None:
    vector = CounterVec("calls", "Calls.", ("code", "method"))
    assert shown(vector) == []
    vector.inc("200", "GET")
    vector.inc("200", "GET", by=2)
    vector.inc("500", "PUT")
    assert shown(vector) == ['calls_total{code="200",method="GET"} 3.0', 'calls_total{code="500",method="PUT"} 1.0']


def test_a_gauge_shows_what_it_was_set_to_last() -> None:
    vector = GaugeVec("depth", "Depth.", ("name",))
    assert shown(vector) == []
    vector.set(2, "pods")
    vector.set(0, "pods")
    assert shown(vector) == ['depth{name="pods"} 0.0']
    vector.clear()
    assert shown(vector) == []


def test_a_histogram_can_be_shown_before_anything_is_observed() -> None:
    vector = HistogramVec("seconds", "Seconds.", ("name",), (1.0,))
    vector.show("pods")
    assert 'seconds_count{name="pods"} 0.0' in shown(vector)
    vector.observe(3, "pods")
    vector.show("pods")
    assert 'seconds_count{name="pods"} 1.0' in shown(vector)


def test_without_labels_there_is_a_zero_before_anything_happens() -> None:
    assert shown(CounterVec("evictions", "Evictions.")) == ["evictions_total 0.0"]
    assert shown(GaugeVec("depth", "Depth.")) == ["depth 0.0"]
    assert 'seconds_bucket{le="+Inf"} 0.0' in shown(HistogramVec("seconds", "Seconds.", (), (1.0,)))


def test_a_value_on_a_bound_counts_below_it() -> None:
    vector = HistogramVec("seconds", "Seconds.", ("verb",), (0.1, 1.0))
    for value in (0.1, 0.5, 3.0):
        vector.observe(value, "GET")
    assert shown(vector) == [
        'seconds_bucket{le="0.1",verb="GET"} 1.0',
        'seconds_bucket{le="1.0",verb="GET"} 2.0',
        'seconds_bucket{le="+Inf",verb="GET"} 3.0',
        'seconds_count{verb="GET"} 3.0',
        'seconds_sum{verb="GET"} 3.6',
    ]
    assert vector.observed() == {("GET",): 3}


def test_exponential_bounds() -> None:
    assert exponential(0.01, 2, 4) == (0.01, 0.02, 0.04, 0.08)
