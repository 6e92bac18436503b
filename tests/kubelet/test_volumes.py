"""Files of volumes: replaced in one step, within their volume, with the right owners."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from tests.kubelet.world import World, play, pod
from tiphys.kubelet.volumes.atomic import FileProjection, PathError, write_payload
from tiphys.kubelet.volumes.failures import MountFailure
from tiphys.kubelet.volumes.hostpath import prepare_host_path
from tiphys.kubelet.volumes.ownership import already_given, give_to_group
from tiphys.kubelet.volumes.payloads import Material, TokenSpec, make_payload, needs
from tiphys.kubelet.volumes.subpath import bind_subpath
from tiphys.runtime.system import mounts

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


def files(**contents: str) -> dict[str, FileProjection]:
    return {name.replace("__", "/"): FileProjection(text.encode(), 0o640) for name, text in contents.items()}


def test_files_appear_and_are_replaced_together(tmp_path: Path) -> None:
    assert write_payload(tmp_path, files(a="1", dir__b="2"), 0)
    assert (tmp_path / "a").read_text() == "1"
    assert (tmp_path / "dir" / "b").read_text() == "2"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    first = os.readlink(tmp_path / "..data")
    assert not write_payload(tmp_path, files(a="1", dir__b="2"), 1)
    assert os.readlink(tmp_path / "..data") == first
    assert write_payload(tmp_path, files(a="new", c="3"), 2)
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("..")) == ["a", "c"]
    assert (tmp_path / "a").read_text() == "new"
    assert not (tmp_path / first).exists()


def test_an_open_folder_never_shows_a_mixture(tmp_path: Path) -> None:
    write_payload(tmp_path, files(a="old", b="old"), 0)
    before = (tmp_path / "..data").resolve()
    seen = {name: (before / name).read_text() for name in ("a", "b")}
    write_payload(tmp_path, files(a="new", b="new"), 1, lambda: seen.update(during=(tmp_path / "a").read_text()))
    assert seen == {"a": "old", "b": "old", "during": "old"}


@pytest.mark.parametrize("path", ["", "/abs", "../up", "a/../../b", "..hidden"])
def test_paths_that_lead_out_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(PathError):
        write_payload(tmp_path, {path: FileProjection(b"", 0o644)}, 0)


def material(**more: object) -> Material:
    given: dict[str, object] = {"config_maps": {}, "secrets": {}, "tokens": {}, "field": lambda item: "field", **more}
    return Material(**given)  # type: ignore[arg-type]


def test_projected_volumes_put_everything_together() -> None:
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "tls/ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        {"secret": {"name": "gone", "optional": True}},
    ]
    volume = {"name": "v", "projected": {"defaultMode": 0o400, "sources": sources}}
    wanted = needs(volume)
    assert wanted.tokens == {TokenSpec("", 3607)}
    assert (wanted.config_maps, wanted.secrets) == ({"ca"}, {"gone"})
    given = material(config_maps={"ca": {"data": {"ca.crt": "CERT"}}}, tokens={TokenSpec("", 3607): "abc"})
    payload = make_payload(pod("web"), volume, given)
    assert {path: (file.data, file.mode) for path, file in payload.items()} == {
        "token": (b"abc", 0o400),
        "tls/ca.crt": (b"CERT", 0o400),
        "namespace": (b"field", 0o400),
    }


def test_missing_objects_and_keys() -> None:
    with pytest.raises(MountFailure, match=r'^secret "s" not found$'):
        make_payload(pod("web"), {"name": "v", "secret": {"secretName": "s"}}, material())
    config_map = {"m": {"data": {}, "binaryData": {"b": base64.b64encode(b"\xff").decode()}}}
    volume = {"name": "v", "configMap": {"name": "m", "items": [{"key": "k", "path": "k"}]}}
    with pytest.raises(MountFailure, match=r"^references non-existent config key: k$"):
        make_payload(pod("web"), volume, material(config_maps=config_map))
    whole = make_payload(pod("web"), {"name": "v", "configMap": {"name": "m"}}, material(config_maps=config_map))
    assert whole["b"].data == b"\xff"


def test_host_paths_are_checked(tmp_path: Path) -> None:
    assert prepare_host_path(str(tmp_path / "new"), "DirectoryOrCreate").is_dir()
    assert prepare_host_path(str(tmp_path / "file"), "FileOrCreate").is_file()
    with pytest.raises(MountFailure, match="is not a directory"):
        prepare_host_path(str(tmp_path / "file"), "Directory")
    with pytest.raises(MountFailure, match="is not a socket"):
        prepare_host_path(str(tmp_path / "none"), "Socket")


@needs_root
def test_a_group_is_given_the_volume(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_text("x")
    assert not already_given(tmp_path, 4321)
    give_to_group(tmp_path, 4321)
    assert already_given(tmp_path, 4321)
    found = (tmp_path / "inner" / "file").stat()
    assert (found.st_gid, found.st_mode & 0o777) == (4321, 0o664)
    assert (tmp_path / "inner").stat().st_mode & 0o2000
    (tmp_path / "secret").touch(mode=0o400)
    give_to_group(tmp_path, 4321, read_only=True)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o440


@needs_root
@pytest.mark.root
def test_a_subpath_stays_in_its_volume(tmp_path: Path) -> None:
    volume, target = tmp_path / "volume", tmp_path / "target"
    volume.mkdir()
    (volume / "secret").symlink_to("/etc")
    with pytest.raises(MountFailure):
        bind_subpath(volume, "secret/passwd", target / "0")
    with pytest.raises(MountFailure, match="must not contain"):
        bind_subpath(volume, "../x", target / "0")
    try:
        bound = bind_subpath(volume, "made/here", target / "1")
        (bound / "file").write_text("seen")
        assert (volume / "made" / "here" / "file").read_text() == "seen"
        (volume / "plain").write_text("a file")
        assert bind_subpath(volume, "plain", target / "2").read_text() == "a file"
        # What is mounted is what was checked, whatever the container puts in its place later.
        (volume / "plain").unlink()
        (volume / "plain").symlink_to("/etc/passwd")
        assert (target / "2").read_text() == "a file"
    finally:
        assert mounts.unmount_below(tmp_path) == []
    assert mounts.mounts_below(tmp_path) == []


@pytest.mark.parametrize("kind", ["nfs", "iscsi", "fc"])
def test_volumes_in_the_tree_that_are_not_there_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    async def scene(world: World) -> None:
        world.add(pod("web", volumes=[{"name": "data", kind: {}}]))
        words = f"volume type {kind} is not supported by this kubelet"
        await world.until(lambda: any(why == "FailedMount" and words in text for why, text in world.api.events()))

    play(tmp_path, scene)
