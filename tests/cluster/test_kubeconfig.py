"""Kubeconfigs: the components' files, and the user's, which others' contexts share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tiphys.cluster import kubeconfig
from tiphys.cluster.credentials import ensure_kubeconfigs
from tiphys.cluster.pki import ensure_pki
from tiphys.cluster.settings import Settings

OTHER = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "prod", "cluster": {"server": "https://prod"}}],
    "users": [{"name": "me", "user": {"token": "x"}}],
    "contexts": [{"name": "prod", "context": {"cluster": "prod", "user": "me", "namespace": "web"}}],
    "current-context": "prod",
    "preferences": {},
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(data_dir=tmp_path, node_name="n1", node_ip="10.1.2.3")
    ensure_pki(made)
    ensure_kubeconfigs(made)
    return made


def test_each_component_has_a_private_file_with_its_identity(settings: Settings) -> None:
    for name in ("admin", "super-admin", "controller-manager", "scheduler", "kube-proxy", "dns", "kubelet"):
        path = settings.kubeconfig(name)
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert kubeconfig.credentials(kubeconfig.load(path))[0] == "https://10.1.2.3:6443"


def test_a_second_time_changes_nothing_and_another_address_does(settings: Settings) -> None:
    before = settings.kubeconfig("admin").read_bytes()
    ensure_kubeconfigs(settings)
    assert settings.kubeconfig("admin").read_bytes() == before
    ensure_kubeconfigs(settings.changed(port=7443))
    assert kubeconfig.load(settings.kubeconfig("admin"))["clusters"][0]["cluster"]["server"] == "https://10.1.2.3:7443"


def test_merging_leaves_other_contexts_alone_and_can_be_undone(settings: Settings, tmp_path: Path) -> None:
    user_file = tmp_path / "home" / "config"
    user_file.parent.mkdir()
    user_file.write_bytes(kubeconfig.dump(OTHER))
    ours = kubeconfig.load(settings.kubeconfig("admin"))
    kubeconfig.merge_into(user_file, ours)
    kubeconfig.merge_into(user_file, ours)
    merged = kubeconfig.load(user_file)
    assert [c["name"] for c in merged["contexts"]] == ["prod", "tiphys"]
    assert merged["contexts"][0] == OTHER["contexts"][0]
    assert merged["current-context"] == "tiphys"
    kubeconfig.remove_from(user_file, "tiphys")
    assert kubeconfig.load(user_file) == OTHER


def test_a_file_that_is_no_kubeconfig_is_refused_and_kept(settings: Settings, tmp_path: Path) -> None:
    user_file = tmp_path / "notes"
    user_file.write_text("- just a list\n")
    with pytest.raises(ValueError, match="is not a kubeconfig"):
        kubeconfig.merge_into(user_file, kubeconfig.load(settings.kubeconfig("admin")))
    assert user_file.read_text() == "- just a list\n"
