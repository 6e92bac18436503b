"""Folders that somebody else writes to: no path leads out of them, whichever way the kernel lets us resolve it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.swaps import swap_before_step
from tiphys.runtime.system import folders
from tiphys.runtime.system.folders import O_PATH, Folder, open_regular, remove_tree, walk


@pytest.fixture(params=["kernel", "hand"])
def resolver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "hand":
        monkeypatch.setattr(folders, "kernel_resolves", lambda: False)
    elif not folders.kernel_resolves():
        pytest.skip("this kernel has no openat2")
    return str(request.param)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[tuple[Path, Folder]]:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "file").write_text("inside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (root / "near").symlink_to("a/b")
    (root / "around").symlink_to("a/../near/file")
    (root / "home").symlink_to(str(root / "a"))
    (root / "up").symlink_to("../outside")
    (root / "a" / "up").symlink_to("../../outside")
    (root / "far").symlink_to(str(tmp_path / "outside"))
    (root / "twin").symlink_to(f"{root}-twin")
    (root / "loop").symlink_to("loop")
    (root / "proc").symlink_to("/proc/self/root/etc")
    with Folder.at(root) as folder:
        yield root, folder


def read(folder: Folder, path: str, *, follow: bool) -> str:
    with os.fdopen(folder.open_regular(path, follow=follow)) as file:
        return file.read()


@pytest.mark.parametrize("path", ["a/b/file", "./a//b/./file", "a/../a/b/file"])
@pytest.mark.parametrize("follow", [False, True])
def test_plain_paths_are_opened(tree: tuple[Path, Folder], resolver: str, path: str, follow: bool) -> None:
    assert read(tree[1], path, follow=follow) == "inside"


@pytest.mark.parametrize("path", ["near/file", "around", "home/b/file", "home/../near/file"])
def test_links_that_stay_inside_are_followed_if_asked_for(tree: tuple[Path, Folder], resolver: str, path: str) -> None:
    assert read(tree[1], path, follow=True) == "inside"
    with pytest.raises(OSError):
        tree[1].open_regular(path)


@pytest.mark.parametrize(
    "path",
    [
        "up/secret",
        "a/up/secret",
        "far/secret",
        "../outside/secret",
        "a/../../outside/secret",
        "/etc/passwd",
        "loop",
        "proc/passwd",
        "twin/secret",
        "near/../../../outside/secret",
    ],
)
@pytest.mark.parametrize("follow", [False, True])
def test_what_leads_out_is_refused(tree: tuple[Path, Folder], resolver: str, path: str, follow: bool) -> None:
    (tree[0].parent / "root-twin").mkdir()
    (tree[0].parent / "root-twin" / "secret").write_text("secret")
    with pytest.raises(OSError):
        tree[1].open_regular(path, follow=follow)


def test_a_link_itself_can_be_held(tree: tuple[Path, Folder], resolver: str) -> None:
    held = tree[1].open("a/up", O_PATH | os.O_NOFOLLOW)
    try:
        assert os.readlink("", dir_fd=held) == "../../outside"
    finally:
        os.close(held)


def test_folders_are_made_with_their_mode_and_never_behind_a_link(tree: tuple[Path, Folder], resolver: str) -> None:
    root, folder = tree
    old = os.umask(0o077)
    try:
        with folder.make_folders("a/new/deep", 0o2775) as made:
            os.close(made.make_file("file", 0o666))
    finally:
        os.umask(old)
    assert [(root / "a" / part).stat().st_mode & 0o7777 for part in ("new", "new/deep")] == [0o2775, 0o2775]
    assert (root / "a/new/deep/file").stat().st_mode & 0o7777 == 0o666
    with folder.make_folders("near/more", 0o755, follow=True):
        assert (root / "a/b/more").is_dir()
    for path in ("up/new", "far/new", "near/new", "a/up/new"):
        with pytest.raises(OSError):
            folder.make_folders(path, 0o777)
    with pytest.raises(OSError):
        folder.make_folders("up/new", 0o777, follow=True)
    (root / "dangling").symlink_to("../outside/made")
    with pytest.raises(OSError):
        folder.make_folders("dangling", 0o777, follow=True)
    with pytest.raises(FileExistsError):
        folder.make_file("dangling", 0o666)
    assert sorted(os.listdir(root.parent / "outside")) == ["secret"]


def test_a_pipe_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    with Folder.at(tmp_path) as folder:
        for name in ("pipe", "link", "."):
            with pytest.raises(OSError):
                folder.open_regular(name)
            with pytest.raises(OSError):
                open_regular(tmp_path / name)


def test_a_folder_swapped_for_a_link_at_any_step_gains_nothing(tmp_path: Path, resolver: str) -> None:
    """The one who owns the volume may put a link in the place of any folder between any two system calls."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    number, going = 0, True
    while going:
        number += 1
        volume = tmp_path / f"volume-{number}"
        (volume / "a").mkdir(parents=True)

        def swap(volume: Path = volume) -> None:
            for name in ("a/b/c", "a/b", "a"):
                if (volume / name).is_dir():
                    (volume / name).rename(volume / f"was-{name.replace('/', '-')}")
                    (volume / name).symlink_to(outside)
                    return

        def work(volume: Path = volume) -> None:
            with Folder.at(volume) as folder, folder.make_folders("a/b/c", 0o777) as made:
                os.close(made.make_file("file", 0o666))

        going = swap_before_step(number, work, swap)
    assert number > 30
    assert os.listdir(outside) == []
    assert outside.stat().st_mode & 0o7777 == 0o700


def test_a_tree_is_walked_and_removed_whatever_is_in_it(tmp_path: Path, resolver: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    tree = tmp_path / "tree"
    for number in range(30):
        (tree / f"wide-{number}").mkdir(parents=True)
        (tree / f"wide-{number}" / "file").write_text("12345")
    (tree / "link").symlink_to(outside)
    (tree / "wide-1" / "link").symlink_to(outside / "kept")
    os.mkfifo(tree / "pipe")
    with Folder.at(tree) as folder:
        seen = [(name, found.st_size) for _, name, found in walk(folder.descriptor)]
        assert sum(size for name, size in seen if name == "file") == 150
        assert "kept" not in [name for name, _ in seen]
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "kept").read_text() == "x"
    remove_tree(tree)  # what is gone is no error


def test_a_tree_may_be_deeper_than_a_path_is_long(tmp_path: Path, resolver: str) -> None:
    deep = 1100
    tree = tmp_path / "tree"
    tree.mkdir()
    current = os.open(tree, os.O_RDONLY)
    for _ in range(deep):
        os.mkdir("folder", dir_fd=current)
        inner = os.open("folder", os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=current))
    os.close(current)
    before = len(os.listdir("/proc/self/fd"))
    with Folder.at(tree) as folder:
        assert sum(1 for _ in walk(folder.descriptor)) == deep + 1
    remove_tree(tree)
    assert not tree.exists()
    assert len(os.listdir("/proc/self/fd")) == before
