"""Which versions ``--runtime-config`` accepts."""

from __future__ import annotations

import argparse

import pytest

from tiphys.apiserver.runtimeconfig import UNSERVED, parse_runtime_config, stable_versions


@pytest.mark.parametrize("text", ["api/v1=true", "v1", "apps/v1", "api/ga=true,api/beta=false,api/alpha=false",
                                  "resource.k8s.io/v1beta1=false", "batch/v1/jobs=true", "v1/pods",
                                  "storage.k8s.io/v1beta1/volumeattributesclasses=false"])  # fmt: skip
def test_what_is_so_is_accepted(text: str) -> None:
    assert len(parse_runtime_config(text)) == len(text.split(","))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("api/v1=false", "api/v1=false is not supported: it cannot be turned off"),
        ("api/beta", "api/beta=true is not supported: Tiphys serves no such version"),
        ("api/all=true", "api/all=true is not supported: some versions are served"),
        ("api/ga=false", "api/ga=false is not supported: it cannot be turned off"),
        ("resource.k8s.io/v1alpha3=true", "resource.k8s.io/v1alpha3=true is not supported: Tiphys serves no such"),
        ("nope/v1", "unknown api group or version 'nope'"),
        ("apps/v7", "unknown api group or version 'apps'"),
        ("apps/v1=perhaps", "'perhaps' is not a boolean"),
    ],
)
def test_what_is_not_so_is_refused_by_name(text: str, problem: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=problem):
        parse_runtime_config(f"v1,{text}")


def test_no_version_is_both_served_and_not() -> None:
    assert not UNSERVED & stable_versions()
