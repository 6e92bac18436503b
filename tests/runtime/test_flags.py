"""Every flag and feature gate of v1.36's components is known, and what docs/flags.md says of it is so."""

from __future__ import annotations

import pytest

from tests.runtime import flagtable, upstreamhelp
from tiphys.runtime import featuregates, upstream
from tiphys.runtime.flags import FlagError, FlagParser

OTHER = {"bool": "true", "duration": "77m", "ip": "192.0.2.77", "mapStringBool": "Nonsense=true"}
NEEDED = {"kubelet": ["--kubeconfig=/nowhere"]}

NOT_WITH_DEFAULT: dict[str, set[str]] = {}
"""Flags whose default of upstream's is refused, by component: none."""


def parse(parser: FlagParser, component: str, *words: str) -> object:
    return parser.parse([*NEEDED.get(component, ()), *words])


def other_value(flag: upstream.UpstreamFlag) -> str:
    if flag.kind == "bool":
        return "false" if flag.default == "true" else "true"
    numeric = flag.kind in ("int", "int32", "float", "float32", "quantity", "Level")
    return "77" if numeric else OTHER.get(flag.kind, "nonsense")


@pytest.mark.parametrize("component", upstream.COMPONENTS)
def test_every_flag_with_its_default_is_accepted(component: str, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in upstream.flags_of(component).values():
        if not flag.default and flag.kind not in ("bool", "string", "strings", "duration"):
            continue
        parser = flagtable.parser_of(component)
        value = flag.default or {"bool": "false", "duration": "0s"}.get(flag.kind, "")
        if value.startswith("["):
            value = value.strip("[]")
        if not value and flag.kind == "string":
            continue
        idle = flag.name in parser.idle()
        parse(parser, component, f"--{flag.name}={value}")
        warned = capsys.readouterr().err
        assert (f"--{flag.name} steers nothing" in warned) == idle, (flag, warned)


@pytest.mark.parametrize("component", upstream.COMPONENTS)
def test_a_flag_that_steers_nothing_is_refused_by_name_with_another_value(component: str) -> None:
    parser = flagtable.parser_of(component)
    for flag in parser.idle().values():
        if (value := other_value(flag)) in parser.same(flag.name):
            continue
        with pytest.raises(FlagError, match=f"^{component}: upstream's flag --{flag.name}={value} is not supported"):
            parse(parser, component, f"--{flag.name}={value}")


@pytest.mark.parametrize("component", upstream.COMPONENTS)
def test_it_is_said_of_every_flag_why_it_steers_nothing_and_of_no_flag_that_works(component: str) -> None:
    parser = flagtable.parser_of(component)
    assert [name for name in parser.idle() if not parser.why(name)] == []
    said = {*parser._why, *parser._same}
    assert said - parser.idle().keys() == set()


def test_who_sets_a_flag_that_steers_nothing_is_told_why() -> None:
    parser = flagtable.parser_of("kube-apiserver")
    with pytest.raises(FlagError, match="is not supported by Tiphys: no spans are sent; remove it, or give ''"):
        parser.parse(["--tracing-config-file=/x"])


def test_modules_and_labels_are_read_as_upstream_reads_them() -> None:
    parser = flagtable.parser_of("kube-apiserver")
    given = parser.parse(
        [
            "--vmodule=feed=4,cacher=2",
            "--vmodule=tiphys/store/*=3",
            "--allow-metric-labels=a,verb=GET,LIST",
            '--allow-metric-labels="b,code=200","c,code=404"',
            "--disabled-metrics=x,y",
            "--disabled-metrics=z",
            "--watch-cache-sizes=pods#100,deployments.apps#5",
        ]
    )
    assert given.vmodule == {"feed": 4, "cacher": 2, "tiphys/store/*": 3}
    assert given.allow_metric_labels == {"a,verb": "GET,LIST", "b,code": "200", "c,code": "404"}
    assert given.disabled_metrics == ["x", "y", "z"]
    for word, message in (
        ("--vmodule=feed", "expect comma-separated list of filename=N"),
        ("--watch-cache-sizes=pods#0", "a cache cannot be turned off"),
        ("--watch-cache-sizes=pods", "invalid value of watch cache size: pods"),
        ("--etcd-healthcheck-timeout=0s", "duration of more than nothing"),
    ):
        with pytest.raises(FlagError, match=message):
            parser.parse([word])


def test_a_flag_that_steers_nothing_takes_its_value_from_the_next_word_and_a_boolean_none() -> None:
    parser = FlagParser("kube-scheduler", "")
    parser.parse(["--kube-api-burst", "100", "--contention-profiling"])
    with pytest.raises(FlagError, match="--kube-api-burst=7 is not supported by Tiphys; remove it, or"):
        parser.parse(["--kube-api-burst", "7"])


def test_what_upstream_does_not_know_is_unknown() -> None:
    with pytest.raises(FlagError, match="unknown flag or argument: --nonsense"):
        FlagParser("kube-scheduler", "").parse(["--nonsense=1"])


def test_the_page_says_what_the_code_does() -> None:
    assert flagtable.PAGE.read_text() == flagtable.page(), "write it: python -m tests.runtime.flagtable"


def test_all_flags_are_there() -> None:
    assert sum(len(upstream.flags_of(name)) + 2 for name in upstream.COMPONENTS) == 678


def test_help_is_read_as_upstream_prints_it() -> None:
    text = """
Usage:
  kube-x [flags]

Generic flags:

      --b-list strings     Names, e.g. (default is none) of things.
                           More of it. (default [*])
      --a                  On or off. (default true)
  -v, --v Level            number for the log level
      --version version[=true]   --version prints
      --vmodule pattern=N,...   comma-separated list (default is not here
"""
    assert upstreamhelp.table(text) == "a\tbool\ttrue\nb-list\tstrings\t[*]\nv\tLevel\nvmodule\tpattern=N,...\n"


# -- feature gates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", featuregates.gates().values(), ids=lambda gate: gate.name)
def test_a_gate_is_accepted_as_it_is_and_refused_by_name_otherwise(gate: featuregates.FeatureGate) -> None:
    as_it_is, other = str(gate.default).lower(), str(not gate.default).lower()
    assert featuregates.parse(f"{gate.name}={as_it_is}") == {gate.name: gate.default}
    if gate.name in featuregates.BOTH_WAYS:
        assert featuregates.parse(f"{gate.name}={other}") == {gate.name: not gate.default}
        return
    with pytest.raises(featuregates.GateError, match=rf"\b{gate.name}\b"):
        featuregates.parse(f"{gate.name}={other}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Nonsense=true", "unrecognized feature gate: Nonsense"),
        ("APIServerTracing=false", "cannot set feature gate APIServerTracing to false, feature is locked to true"),
        ("ContextualLogging", "missing bool value for ContextualLogging"),
        ("ContextualLogging=maybe", "invalid value of ContextualLogging=maybe, which is not a boolean"),
        ("other:ContextualLogging=true", "component not registered: other"),
    ],
)
def test_gates_that_cannot_be(text: str, problem: str) -> None:
    with pytest.raises(featuregates.GateError, match=problem):
        featuregates.parse(text)


def test_gates_by_the_flag_may_be_repeated_and_name_their_component() -> None:
    parser = FlagParser("kube-scheduler", "")
    parser.add_feature_gates()
    given = parser.parse(["--feature-gates=kube:AllAlpha=false,ContextualLogging=true", "--feature-gates", ""])
    assert given.feature_gates == {"AllAlpha": False, "ContextualLogging": True}
    with pytest.raises(FlagError, match='invalid argument "AllAlpha=true" for "--feature-gates" flag: feature gate'):
        parser.parse(["--feature-gates=AllAlpha=true"])
