"""A folder of configuration beside the kubelet's file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tiphys.kubelet.command import EVICTION_HARD, configuration, parser
from tiphys.kubelet.config import KubeletConfig
from tiphys.runtime.component import CannotStart

HEAD = "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\n"


def read(folder: Path, *words: str, base: str = "", **files: str) -> KubeletConfig:
    """The configuration by a file ``base`` and files of the folder; ``__`` in their names is a slash, ``_`` a dot."""
    place = folder / "conf.d"
    place.mkdir(exist_ok=True)
    (folder / "base.yaml").write_text(HEAD + base)
    for name, text in files.items():
        path = place / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text if text.startswith("kind") or ":" not in text else HEAD + text)
    given = ["--kubeconfig=k", f"--config={folder}/base.yaml", f"--config-dir={place}", *words]
    return configuration(parser().parse(given))[0]


def test_files_are_merged_by_name_and_flags_win(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        "--max-pods=9",
        base="maxPods: 1\nport: 1\nclusterDNS: [10.0.0.1, 10.0.0.2]\nsystemReserved: {cpu: 100m}\n",
        a_conf="maxPods: 2\nport: 2\nclusterDNS: [10.0.0.3]\nsystemReserved: {memory: 1Gi}\n",
        b__inner_conf="port: 4\n",
        b_conf="port: 3\nsystemReserved: {cpu: null}\n",
        c_yaml="port: 5\n",
    )
    assert (config.max_pods, config.port, config.cluster_dns) == (9, 3, ("10.0.0.3",))  # "b" is before "b.conf"
    assert config.system_reserved == {"memory": "1Gi"}


def test_null_is_the_default_and_thresholds_add_to_upstreams(tmp_path: Path) -> None:
    config = read(tmp_path, base="maxPods: 1\n", a_conf="maxPods: null\nevictionHard: {memory.available: 1Gi}\n")
    assert config.max_pods == 110
    assert config.eviction_hard == {**EVICTION_HARD, "memory.available": "1Gi"}
    config = read(tmp_path, base="evictionHard: {pid.available: 10%}\n")
    assert config.eviction_hard == {"pid.available": "10%", "memory.available": "1Gi"}


def test_a_folder_alone_and_one_that_is_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "conf.d"
    place.mkdir()
    given = parser().parse(["--kubeconfig=k", f"--config-dir={place}"])
    assert configuration(given)[0].eviction_hard == EVICTION_HARD
    (place / "a.conf").write_text(f"{HEAD}maxPods: 7\n")
    (place / "a.txt").write_text("nothing")
    with caplog.at_level(logging.WARNING):
        assert configuration(given)[0].max_pods == 7
    assert "a.txt is not read" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: Pod\napiVersion: v1\n", "unknown apiVersion/kind: v1, Kind=Pod"),
        ("[", "error: "),
        ("kind:\n", "no apiVersion/kind"),
        ("nonsense: 1\n", "upstream's field nonsense is not supported by Tiphys"),
        ("maxPods: many\n", "field maxPods: 'many' is not a whole number"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CannotStart) as caught:
        read(tmp_path, a_conf=text)
    assert message in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="failed to walk through kubelet dropin directory"):
        configuration(parser().parse(["--kubeconfig=k", f"--config-dir={tmp_path}/none"]))
