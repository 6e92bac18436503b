"""A base under our image: what is kept of it, and what is refused."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from tiphys.cluster.imagebuild import python
from tiphys.cluster.imagebuild.base import check_library, read_base
from tiphys.cluster.imagebuild.bytecode import compile_all
from tiphys.cluster.ocilayout import File, ImageError, ImageSource, build, compressed_layer


def base_image(folder: Path, *files: File) -> Path:
    archive = folder / "base.tar"
    archive.write_bytes(build(ImageSource("example.com/base:1", files, environment={"LANG": "C.UTF-8"})))
    return archive


def test_a_base_is_read_as_it_was_written(tmp_path: Path) -> None:
    base = read_base(base_image(tmp_path, File("etc/base", b"1")), tmp_path / "unpacked")
    assert base.config["config"]["Env"] == ["LANG=C.UTF-8"]
    assert [layer.diff_id for layer in base.layers] == base.config["rootfs"]["diff_ids"]


def test_what_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    archive = tmp_path / "base.tar"
    archive.write_bytes(b"no tar file")
    with pytest.raises(ImageError, match=r"--base: .*base\.tar is no OCI image layout"):
        read_base(archive, tmp_path / "unpacked")


def test_a_damaged_blob_is_refused(tmp_path: Path) -> None:
    archive = base_image(tmp_path, File("etc/base", b"AAAA" * 100))
    archive.write_bytes(archive.read_bytes().replace(b"AAAA" * 100, b"AAAB" * 100))
    with pytest.raises(ImageError, match="is damaged"):
        read_base(archive, tmp_path / "unpacked")


def test_a_base_with_another_c_library_is_refused(tmp_path: Path) -> None:
    archive = base_image(tmp_path, File("lib/x86_64-linux-gnu/libc.so.6", b"another"))
    base = read_base(archive, tmp_path / "unpacked")
    ours = tmp_path / "libc.so.6"
    ours.write_bytes(b"this machine's")
    with pytest.raises(ImageError, match="its C library"):
        check_library(base, [File("usr/lib/x86_64-linux-gnu/libc.so.6", source=ours)])
    ours.write_bytes(b"another")
    check_library(base, [File("usr/lib/x86_64-linux-gnu/libc.so.6", source=ours)])


def test_a_set_of_constants_compiles_to_the_same_bytes(tmp_path: Path) -> None:
    """Its order follows the hash seed, which every interpreter chooses for itself."""
    source = tmp_path / "module.py"
    source.write_text("def f(x):\n    return x in {'one', 'two', 'three', 'four', 'five', 'six'}\n")
    made = [tmp_path / name for name in "ab"]
    for target in made:
        compile_all([(str(source), "/in/the/image.py", str(target))])
    assert made[0].read_bytes() == made[1].read_bytes()
    assert b"/in/the/image.py" in made[0].read_bytes()
    assert str(tmp_path).encode() not in made[0].read_bytes()


def test_a_layer_is_written_without_holding_its_files(tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.write_bytes(b"x" * 1000)
    layers = [compressed_layer([File("a/b", source=content, mode=0o644)], tmp_path / name) for name in "ab"]
    assert layers[0].digest == layers[1].digest
    with tarfile.open(tmp_path / "a") as entries:
        (entry,) = entries.getmembers()
    assert (entry.size, entry.mtime, entry.mode) == (1000, 0, 0o644)


def test_all_that_the_project_requires_is_packed_and_nothing_of_its_tools() -> None:
    paths = {file.path for file in python.distributions()}
    places = {path.removeprefix(python.PACKAGES + "/").split("/")[0] for path in paths}
    assert {"orjson", "uvloop", "grpc", "numpy", "yaml"} <= places
    assert not {"pytest", "mypy", "kubernetes", "pip"} & places
    assert not [path for path in paths if "/tests/" in path or path.endswith(".pyc")]


def test_the_layout_names_the_image_for_containerd(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(build(ImageSource("example.com/x:2", [])))) as layout:
        file = layout.extractfile("index.json")
        assert file is not None
        (entry,) = json.load(file)["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "example.com/x:2"
