"""Images from the machine's own programs, and the files that a private containerd is given."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tiphys.cluster.containerd import (
    ContainerdConfig,
    ContainerdError,
    PodNetwork,
    link_plugins,
    masquerade_rules,
    network_config,
    render,
)
from tiphys.cluster.images import lacking, remember, remembered
from tiphys.cluster.ocilayout import File, ImageSource, build


def read_layout(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}  # type: ignore[union-attr]


def source() -> ImageSource:
    files = [File("bin/", None), File("bin/tool", b"\x7fELF"), File("bin/alias", link="tool")]
    return ImageSource("tiphys.local/tool:1", files, entrypoint=["/bin/tool"], user="65535:65535")


def test_an_image_layout_is_whole() -> None:
    files = read_layout(build(source()))
    index = json.loads(files["index.json"])
    entry = index["manifests"][0]
    assert entry["annotations"]["io.containerd.image.name"] == "tiphys.local/tool:1"

    def blob(descriptor: dict[str, object]) -> bytes:
        digest = str(descriptor["digest"]).removeprefix("sha256:")
        data = files[f"blobs/sha256/{digest}"]
        assert hashlib.sha256(data).hexdigest() == digest
        assert len(data) == descriptor["size"]
        return data

    manifest = json.loads(blob(entry))
    config = json.loads(blob(manifest["config"]))
    assert config["config"]["Entrypoint"] == ["/bin/tool"]
    assert config["config"]["User"] == "65535:65535"
    layer = blob(manifest["layers"][0])
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest()]
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        found = {member.name: member for member in archive}
    assert found["bin/alias"].linkname == "tool"
    assert found["bin/tool"].mode == 0o755
    assert {member.mtime for member in found.values()} == {0}


def test_the_same_program_gives_the_same_image() -> None:
    assert build(source()) == build(source())


def test_containerds_configuration(tmp_path: Path) -> None:
    import tomllib

    config = ContainerdConfig(
        root=tmp_path / "root",
        state=tmp_path / "state",
        socket=tmp_path / "s.sock",
        cni_conf_dir=tmp_path / "net.d",
        cni_bin_dir=tmp_path / "bin",
        certs_dir=tmp_path / "certs",
        snapshotter="native",
        systemd_cgroup=True,
        restrict_oom_score_adj=True,
    )
    found = tomllib.loads(render(config))
    assert found["grpc"]["address"] == str(tmp_path / "s.sock")
    cri = found["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["restrict_oom_score_adj"] is True
    assert cri["containerd"]["snapshotter"] == "native"
    assert cri["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is True
    assert cri["registry"]["config_path"] == str(tmp_path / "certs")
    assert cri["cni"] == {"bin_dir": str(tmp_path / "bin"), "conf_dir": str(tmp_path / "net.d"), "max_conf_num": 1}


def test_the_network_of_pods() -> None:
    network = PodNetwork(("10.244.0.0/24",), bridge="tiphys0", cluster_cidrs=("10.244.0.0/16",), data_dir="/d")
    bridge, portmap = json.loads(network_config(network))["plugins"]
    assert (bridge["bridge"], bridge["isGateway"], bridge["ipMasq"]) == ("tiphys0", True, False)
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.244.0.0/24"}]]
    assert portmap["capabilities"] == {"portMappings": True}
    rules = masquerade_rules(network)
    assert "ip saddr 10.244.0.0/24 ip daddr != { 10.244.0.0/16, 224.0.0.0/4 } masquerade" in rules


def test_a_pods_bandwidth_is_the_business_of_a_plugin_that_not_every_machine_has() -> None:
    plugins = json.loads(network_config(PodNetwork(("10.244.0.0/24",), bandwidth=True)))["plugins"]
    assert plugins[-1] == {"type": "bandwidth", "capabilities": {"bandwidth": True}}


def test_the_network_of_pods_of_two_families() -> None:
    network = PodNetwork(("10.244.0.0/24", "fd00:10:244::/64"), cluster_cidrs=("10.244.0.0/16", "fd00:10:244::/56"))
    bridge, _ = json.loads(network_config(network))["plugins"]
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.244.0.0/24"}], [{"subnet": "fd00:10:244::/64"}]]
    assert bridge["ipam"]["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    rules = masquerade_rules(network)
    assert "ip saddr 10.244.0.0/24 ip daddr != { 10.244.0.0/16, 224.0.0.0/4 } masquerade" in rules
    assert "ip6 saddr fd00:10:244::/64 ip6 daddr != { fd00:10:244::/56, ff00::/8 } masquerade" in rules


def test_plugins_are_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/usr/lib/cni/bridge").exists():
        pytest.skip("needs containernetworking-plugins")
    target = tmp_path / "bin"
    link_plugins(target)
    link_plugins(target)
    assert (target / "bridge").resolve().name == "bridge"
    monkeypatch.setattr(Path, "is_dir", lambda self: False)
    with pytest.raises(ContainerdError, match="install the package containernetworking-plugins"):
        link_plugins(tmp_path / "other")


def test_names_of_imported_images_are_kept_and_read_by_their_owner_only(tmp_path: Path) -> None:
    record = tmp_path / "images.json"
    assert remembered(record) == set()
    remember(record, ["b.example/web:1", "a.example/web:1"])
    remember(record, ["b.example/web:1", "c.example/web:1"])
    assert remembered(record) == {"a.example/web:1", "b.example/web:1", "c.example/web:1"}
    assert record.stat().st_mode & 0o077 == 0


def test_a_node_lacks_what_the_first_has_in_another_version_or_alone() -> None:
    first = {"same": "1", "newer": "2", "missing": "1", "pulled": "1"}
    there = {"same": "1", "newer": "1", "own": "1"}
    assert lacking({"same", "newer", "missing", "own", "gone"}, first, there) == ["missing", "newer"]
