"""The field ``logging`` of KubeletConfiguration."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.configfile import apply_file
from tiphys.kubelet.configz import describe
from tiphys.runtime.component import ConfigError
from tiphys.runtime.logs import LogSettings


def configured(logging: Any) -> KubeletConfig:
    config = KubeletConfig("node-1")
    document = {"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1", "logging": logging}
    apply_file(config, json.dumps(document), "here")
    return config


def test_it_says_how_logs_are_and_is_shown() -> None:
    given = {"format": "json", "verbosity": 4, "vmodule": [{"filePattern": "pleg", "verbosity": 6}]}
    config = configured(given)
    assert config.logging == LogSettings(4, "json", {"pleg": 6})
    assert {**describe(config)["logging"], **given} == describe(config)["logging"]


def test_what_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="field logging: upstream's field options is not supported"):
        configured({"options": {"text": {"splitStream": True}}})
