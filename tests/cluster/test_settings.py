"""Settings: kept over restarts, refused where damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiphys.cluster.settings import Settings, SettingsError


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, node_name="n1", port=7443)
    settings.save()
    assert Settings.load(tmp_path) == settings
    assert Settings.load(tmp_path / "elsewhere") is None


def test_addresses_follow_from_the_service_range() -> None:
    settings = Settings(service_cidr="10.32.0.0/16", node_ip="fd00::1")
    assert (settings.kubernetes_ip, settings.dns_ip) == ("10.32.0.1", "10.32.0.10")
    assert settings.server == "https://[fd00::1]:6443"


def test_a_damaged_or_newer_file_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text("{")
    with pytest.raises(SettingsError, match=r"damaged.*reset"):
        Settings.load(tmp_path)
    (tmp_path / "cluster.json").write_text('{"flux_capacitor": 1}')
    with pytest.raises(SettingsError, match=r"newer Tiphys .flux_capacitor"):
        Settings.load(tmp_path)
