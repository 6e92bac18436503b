"""Which metrics are shown, and with which values of labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime import flagtable
from tiphys.runtime import shown
from tiphys.runtime.component import CannotStart, choose_metrics
from tiphys.runtime.metrics import Registry


@pytest.fixture(autouse=True)
def all_again() -> Iterator[None]:
    yield
    shown.choose((), {})


def lines(registry: Registry, name: str) -> list[str]:
    text = registry.expose().decode()
    return [line for line in text.splitlines() if line.startswith(name) and "_created" not in line]


def test_other_values_of_a_label_are_added_up_as_unexpected() -> None:
    registry = Registry()
    calls = registry.counter("calls", "Calls.", ("verb", "code"))
    for verb in ("GET", "LIST", "PUT", "POST"):
        calls.inc(verb, "200")
    times = registry.histogram("times", "Times.", ("verb",), (1.0,))
    for verb in ("GET", "PUT", "POST"):
        times.observe(0.5, verb)
    shown.choose((), {"calls_total,verb": "GET, LIST", "times,verb": "GET"})
    assert lines(registry, "calls") == [
        'calls_total{code="200",verb="GET"} 1.0',
        'calls_total{code="200",verb="LIST"} 1.0',
        'calls_total{code="200",verb="unexpected"} 2.0',
    ]
    assert lines(registry, "times") == [
        'times_bucket{le="1.0",verb="GET"} 1.0',
        'times_bucket{le="+Inf",verb="GET"} 1.0',
        'times_count{verb="GET"} 1.0',
        'times_sum{verb="GET"} 0.5',
        'times_bucket{le="1.0",verb="unexpected"} 2.0',
        'times_bucket{le="+Inf",verb="unexpected"} 2.0',
        'times_count{verb="unexpected"} 2.0',
        'times_sum{verb="unexpected"} 1.0',
    ]


def test_a_disabled_metric_is_not_shown() -> None:
    registry = Registry()
    registry.counter("calls", "Calls.").inc()
    registry.gauge("up", "Up.").set(1)
    shown.choose(["calls_total"], {})
    assert lines(registry, "calls") == []
    assert lines(registry, "up") == ["up 1.0"]


def test_flags_and_their_file_choose(tmp_path: Path) -> None:
    file = tmp_path / "labels.yaml"
    file.write_text("up,zone: a,b\nup,host: x\n")
    parser = flagtable.parser_of("kube-scheduler")
    words = [f"--allow-metric-labels-manifest={file}", "--allow-metric-labels=up,zone=c", "--disabled-metrics=down"]
    choose_metrics(parser.parse(words))
    registry = Registry()
    up = registry.gauge("up", "Up.", ("zone", "host"))
    up.set(1, "a", "x")
    up.set(2, "c", "y")
    registry.gauge("down", "Down.").set(1)
    assert lines(registry, "up") == ['up{host="x",zone="unexpected"} 1.0', 'up{host="unexpected",zone="c"} 2.0']
    assert lines(registry, "down") == []


@pytest.mark.parametrize("text", ["up", "[1]", "up,zone: [a]"])
def test_a_file_that_names_no_labels_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "labels.yaml"
    file.write_text(text)
    flags = flagtable.parser_of("kube-apiserver").parse([f"--allow-metric-labels-manifest={file}"])
    with pytest.raises(CannotStart, match="--allow-metric-labels"):
        choose_metrics(flags)


def test_a_label_without_a_metric_is_refused() -> None:
    with pytest.raises(CannotStart, match="'up' is no METRIC,LABEL"):
        choose_metrics(flagtable.parser_of("kube-apiserver").parse(["--allow-metric-labels=up=a"]))
