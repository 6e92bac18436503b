"""Pods that put links, pipes and mounts where the kubelet works: it touches, reads and mounts nothing else."""

from __future__ import annotations

import asyncio
import ctypes
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.swaps import swap_before_step
from tiphys.cluster.reset import _remove_folder, _unmount
from tiphys.kubelet import labels
from tiphys.kubelet.container import mounts as container_mounts
from tiphys.kubelet.container.log_rotation import clean
from tiphys.kubelet.container.logs import open_links, open_log, read_last_lines
from tiphys.kubelet.container.messages import termination_message
from tiphys.kubelet.node.gc import ContainerGC
from tiphys.kubelet.runtime.service import ContainerState, ContainerStatus, MountStatus
from tiphys.kubelet.server.node_logs import node_logs
from tiphys.kubelet.volumes.atomic import FileProjection, write_payload
from tiphys.kubelet.volumes.claims import MountedVolume
from tiphys.kubelet.volumes.failures import MountFailure
from tiphys.kubelet.volumes.hostpath import prepare_host_path
from tiphys.kubelet.volumes.manager import remove_mounted_tree
from tiphys.kubelet.volumes.ownership import give_to_group
from tiphys.kubelet.volumes.subpath import bind_subpath
from tiphys.runtime.system import folders, mounts
from tiphys.runtime.system.folders import O_PATH, Folder, remove_tree
from tiphys.wire.http import Response

root = pytest.mark.root
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
_EXCHANGE = 2


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "host").mkdir(mode=0o700)
    (tmp_path / "host" / "secret").write_text("secret")
    (tmp_path / "host" / "secret").chmod(0o600)
    yield tmp_path
    left = mounts.unmount_below(tmp_path)
    assert left == []


@pytest.fixture(params=["kernel", "hand"])
def resolver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to resolve a path below a folder: the kernel's, and that for kernels that have none."""
    if request.param == "hand":
        monkeypatch.setattr(folders, "kernel_resolves", lambda: False)
    return str(request.param)


def untouched(place: Path) -> bool:
    host, secret = place / "host", place / "host" / "secret"
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (host, secret)]
    return os.listdir(host) == ["secret"] and modes == [0o700, 0o600] and secret.stat().st_gid == host.stat().st_gid


def shown_by_host(place: Path, path: Path) -> bool:
    """Whether what is mounted at ``path`` is the host's own folder or file."""
    if not path.exists() and not path.is_symlink():
        return False
    found = os.lstat(path)
    return path.is_symlink() or any(
        os.path.samestat(found, os.lstat(own)) for own in (place / "host", place / "host" / "secret")
    )


@needs_root
@root
@pytest.mark.parametrize("inside", ["a/b", "a/secret", "x"])
def test_a_subpath_swapped_for_a_link_at_any_step(place: Path, inside: str, resolver: str) -> None:
    """``inside`` is there or is made; at each step of preparing it, its folder or itself becomes a link to the host."""
    number, going = 0, True
    while going:
        number += 1
        volume, target = place / f"volume-{number}", place / f"target-{number}" / "0"
        (volume / "a").mkdir(parents=True)
        (volume / "a" / "secret").write_text("mine")

        def swap(volume: Path = volume) -> None:
            for name, to in (("a/secret", "host/secret"), ("a/b", "host"), ("a", "host"), ("x", "host")):
                if (volume / name).exists() and name in (inside, inside.partition("/")[0]):
                    (volume / name).rename(volume / f"was-{name.replace('/', '-')}")
                    (volume / name).symlink_to(place / to)

        going = swap_before_step(number, lambda v=volume, t=target: bind_subpath(v, inside, t), swap)
        assert untouched(place), f"step {number}"
        assert not shown_by_host(place, target), f"step {number}"
        assert mounts.unmount_below(place) == []
    assert number > 20


@needs_root
@root
def test_a_subpath_while_a_thread_swaps_for_ever(place: Path, resolver: str) -> None:
    """renameat2 exchanges the folder for a link to the host as fast as the kernel can."""
    volume = place / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "link").symlink_to(place / "host")
    libc, ends = ctypes.CDLL(None, use_errno=True), threading.Event()
    one, other = os.fsencode(volume / "a"), os.fsencode(volume / "link")

    def attack() -> None:
        while not ends.is_set():
            for _ in range(100):
                libc.renameat2(-100, one, -100, other, _EXCHANGE)

    attacker = threading.Thread(target=attack)
    attacker.start()
    bound = refused = 0
    try:
        for number in range(300):
            target = place / "targets" / str(number)
            try:
                bind_subpath(volume, f"a/new-{number}", target)
            except MountFailure:
                refused += 1
                continue
            bound += 1
            assert not shown_by_host(place, target)
            with Folder.at(target.parent) as folder:
                mounts.unmount(folder, target.name)
    finally:
        ends.set()
        attacker.join()
    assert untouched(place)
    assert mounts.mounts_below(place) == []
    assert bound + refused == 300


@needs_root
@root
def test_the_links_of_a_volume_are_followed_within_it(place: Path) -> None:
    volume = place / "volume"
    (volume / "..data_1").mkdir(parents=True)
    (volume / "..data_1" / "key").write_text("one")
    (volume / "..data").symlink_to("..data_1")
    (volume / "key").symlink_to("..data/key")
    assert bind_subpath(volume, "key", place / "t" / "0").read_text() == "one"
    # A new version of the volume takes the place of the old: another start of the container sees it, with its kind.
    (volume / "..data_2").mkdir()
    (volume / "..data_2" / "key").write_text("two")
    (volume / "..data").unlink()
    (volume / "..data").symlink_to("..data_2")
    (volume / "..data_1" / "key").unlink()
    for _ in range(2):
        assert bind_subpath(volume, "key", place / "t" / "0").read_text() == "two"
        assert len(mounts.mounts_below(place)) == 1
    (volume / "..data_2" / "key").unlink()
    (volume / "..data_2" / "key").mkdir()
    assert bind_subpath(volume, "key", place / "t" / "0").is_dir()


def bind_link(link: Path, target: Path) -> None:
    """Mount a link itself on a file, as the race that was once lost here did."""
    held = os.open(link, O_PATH | os.O_NOFOLLOW)
    target.touch()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mount(f"/proc/self/fd/{held}".encode(), os.fsencode(target), b"", mounts.MS_BIND, None) == 0
    os.close(held)


@needs_root
@root
def test_a_mounted_link_is_removed_and_what_it_names_stays_mounted(place: Path) -> None:
    victim, pod_dir = place / "victim", place / "pods" / "uid with space"
    victim.mkdir()
    with Folder.at(place) as top:
        mounts.mount_tmpfs(top, "victim", "size=64k")
    (victim / "kept").write_text("x")
    pod_dir.mkdir(parents=True)
    (pod_dir / "link").symlink_to(victim)
    bind_link(pod_dir / "link", pod_dir / "0")
    bind_link(pod_dir / "link", pod_dir / "00")
    assert _unmount(place / "pods") == []
    assert mounts.mounts_below(place / "pods") == []
    assert (victim / "kept").read_text() == "x"
    assert mounts.mounts_below(place) == [str(victim)]
    bind_link(pod_dir / "link", pod_dir / "1")
    remove_mounted_tree(pod_dir)
    assert not pod_dir.exists()
    assert (victim / "kept").exists()
    with pytest.raises(OSError), Folder.at(place) as top:
        mounts.unmount(top, "host")  # nothing is mounted there


@needs_root
@root
def test_nothing_is_unmounted_through_a_link(place: Path) -> None:
    """The folder of a mount became a link to another mount: neither is that one taken away, nor is it removed from."""
    other, pod_dir = place / "other", place / "pod"
    (other / "v").mkdir(parents=True)
    pod_dir.mkdir()
    with Folder.at(other) as folder:
        mounts.mount_tmpfs(folder, "v", "size=64k")
    (other / "v" / "kept").write_text("x")
    (pod_dir / "volumes").symlink_to(other)
    with Folder.at(pod_dir) as folder, pytest.raises(OSError):
        folder.folder("volumes")
    remove_mounted_tree(pod_dir)
    assert (other / "v" / "kept").exists()


@needs_root
@root
def test_what_stays_mounted_is_never_emptied(place: Path) -> None:
    data = place / "data"
    (data / "pods" / "v").mkdir(parents=True)
    with Folder.at(place) as top:
        source = top.open("host", O_PATH)
        with Folder.at(data / "pods") as folder:
            mounts.bind(source, folder, "v")
        os.close(source)
    with pytest.raises(OSError):
        remove_tree(data)
    assert _remove_folder(data) != []
    assert untouched(place)


@needs_root
def test_a_group_is_given_no_file_of_the_host_at_any_step(place: Path, resolver: str) -> None:
    number, going = 0, True
    while going:
        number += 1
        volume = place / f"volume-{number}"
        (volume / "a" / "b").mkdir(parents=True)
        (volume / "a" / "secret").write_text("mine")

        def swap(volume: Path = volume) -> None:
            (volume / "a").rename(volume / "was")
            (volume / "a").symlink_to(place / "host")
            (volume / "was" / "secret").unlink()
            (volume / "was" / "secret").symlink_to(place / "host" / "secret")

        going = swap_before_step(number, lambda v=volume: give_to_group(v, 4321), swap)
        assert untouched(place), f"step {number}"
    assert number > 20


@pytest.mark.parametrize("change", ["other", "more", "same"])
def test_files_of_the_api_are_written_in_their_volume_only_at_any_step(place: Path, resolver: str, change: str) -> None:
    """Whatever is in the volume becomes a link to the host, at each step of writing it again."""
    files = {"a/secret": FileProjection(b"mine", 0o644, 1000), "b": FileProjection(b"mine", 0o644)}
    again = {"other": {"a/secret": FileProjection(b"other", 0o644, 1000)}, "more": {**files, "c": files["b"]}}
    number, going = 0, True
    while going:
        number += 1
        volume = place / f"volume-{number}"
        volume.mkdir()
        write_payload(volume, files, 0)

        def swap(volume: Path = volume) -> None:
            for name in (*os.listdir(volume), "..data_tmp"):
                if (volume / name).is_symlink():
                    (volume / name).unlink()
                elif (volume / name).exists():
                    for inner in ("a", "b"):
                        if (volume / name / inner).exists():
                            (volume / name / inner).rename(volume / name / f"was-{inner}")
                            (volume / name / inner).symlink_to(place / "host")
                    (volume / name).rename(place / f"was-{name}-{volume.name}")
                (volume / name).symlink_to(place / "host")

        wanted = again.get(change, files)
        going = swap_before_step(number, lambda v=volume, w=wanted: write_payload(v, w, 1), swap)
        assert untouched(place), f"step {number}"
        assert (place / "host" / "secret").read_text() == "secret"
    assert number > 20


def ended(path: Path, *, log: str = "", policy: str = "File") -> ContainerStatus:
    annotations = {labels.TERMINATION_MESSAGE_PATH: "/dev/last", labels.TERMINATION_MESSAGE_POLICY: policy}
    return ContainerStatus(
        *("id", "main", 0, ContainerState.EXITED, 0.0, 0.0, 0.0, 1, "web:1", "ref"),
        annotations=annotations,
        mounts=(MountStatus("/dev/last", str(path)),),
        log_path=log,
    )


def test_last_words_are_read_from_files_only(place: Path) -> None:
    (place / "words").write_text("bye")
    os.mkfifo(place / "pipe")
    (place / "link").symlink_to(place / "host" / "secret")
    assert termination_message(ended(place / "words")) == "bye"
    for name in ("pipe", "link", "host"):
        assert termination_message(ended(place / name)).startswith("Error on reading termination log")


def test_logs_are_read_from_files_only(place: Path) -> None:
    logs = place / "logs" / "ns_pod_uid" / "main"
    logs.mkdir(parents=True)
    line = b"2026-01-01T00:00:00Z stdout F hello\n"
    (logs / "0.log").write_bytes(line)
    assert read_last_lines(logs / "0.log", 10, 100) == "hello\n"
    (place / "host" / "secret").write_bytes(line)
    (logs / "1.log").symlink_to(place / "host" / "secret")
    os.mkfifo(logs / "2.log")
    (place / "logs" / "ns_pod_uid" / "other").symlink_to(place / "host")
    for path in (logs / "1.log", logs / "2.log", logs.parent / "other" / "secret"):
        with pytest.raises(OSError):
            open_log(path)
    words = termination_message(ended(place / "none", log=str(logs / "1.log"), policy="FallbackToLogsOnError"))
    assert words.startswith("Error on reading termination message from logs")


def test_rotation_compresses_no_file_of_the_host(place: Path) -> None:
    logs = place / "logs"
    logs.mkdir()
    for name in ("0.log", "0.log.2", "0.log.3"):
        (logs / name).write_text("x")
    (logs / "0.log.1").symlink_to(place / "host" / "secret")
    with Folder.at(logs) as folder, pytest.raises(OSError):
        clean(folder, "0.log", 6)
    assert not (logs / "0.log.1.gz").exists()
    (logs / "0.log.1").unlink()
    (logs / "0.log.1").write_text("x")
    with Folder.at(logs) as folder:
        clean(folder, "0.log", 4)
    assert sorted(os.listdir(logs)) == ["0.log", "0.log.2.gz", "0.log.3"]


class Reader:
    """A sink that keeps what it is given."""

    closed = False

    def __init__(self) -> None:
        self.read = b""

    def write(self, data: bytes) -> None:
        self.read += data

    async def drain(self) -> None: ...


def read(answer: Response) -> bytes:
    reader = Reader()
    asyncio.run(answer.body(reader))  # type: ignore[operator, arg-type]
    return reader.read


def test_node_logs_stay_below_their_root(place: Path) -> None:
    logs = place / "log"
    (logs / "pods" / "p").mkdir(parents=True)
    (logs / "pods" / "p" / "0.log").write_text("hello")
    (logs / "containers").symlink_to(logs / "pods")
    (logs / "<b>").touch()
    (logs / "out").symlink_to(place / "host")
    os.mkfifo(logs / "pipe")
    assert read(node_logs(logs, "/pods/p/0.log")) == read(node_logs(logs, "/containers/p/0.log")) == b"hello"
    assert [node_logs(logs, path).status for path in ("/out/secret", "/../host/secret", "/pipe", "/none")] == [
        403,
        403,
        404,
        404,
    ]
    assert b"&lt;b&gt;" in bytes(node_logs(logs, "/").body)  # type: ignore[arg-type]


def test_variables_are_read_from_files_of_the_volume_only(place: Path) -> None:
    volume = place / "volume"
    volume.mkdir()
    (volume / "env").write_text("# names\nA='one'\nB='two\nlines' # more\n")
    os.mkfifo(volume / "pipe")
    (volume / "out").symlink_to(place / "host" / "secret")
    volumes = {"v": MountedVolume(volume)}
    assert container_mounts.read_env_file(volumes, "v", "env", "B") == "two\nlines"
    assert container_mounts.read_env_file(volumes, "v", "env", "C") == ""
    for path in ("pipe", "out", "../host/secret", "none"):
        with pytest.raises(container_mounts.EnvironmentFailure, match="couldn't parse env file"):
            container_mounts.read_env_file(volumes, "v", path, "A")


@pytest.mark.parametrize(
    ("mount", "supported", "answer"),
    [
        ({}, False, False),
        ({"recursiveReadOnly": "Disabled"}, True, False),
        ({"recursiveReadOnly": "IfPossible", "readOnly": True}, True, True),
        ({"recursiveReadOnly": "IfPossible", "readOnly": True}, False, False),
        ({"recursiveReadOnly": "Enabled", "readOnly": True}, True, True),
        ({"recursiveReadOnly": "Enabled", "readOnly": True}, False, "not supported by the runtime"),
        ({"recursiveReadOnly": "Enabled"}, True, "not read-only"),
        (
            {"recursiveReadOnly": "Enabled", "readOnly": True, "mountPropagation": "HostToContainer"},
            True,
            "not compatible with propagation",
        ),
    ],
)
def test_recursively_read_only_mounts_are_what_was_asked_for(
    mount: dict[str, object], supported: bool, answer: bool | str
) -> None:
    if isinstance(answer, str):
        with pytest.raises(MountFailure, match=answer):
            container_mounts.recursive_read_only({"name": "v", **mount}, supported=supported)
    else:
        assert container_mounts.recursive_read_only({"name": "v", **mount}, supported=supported) is answer


def test_a_link_that_leads_nowhere_makes_no_file_of_the_host(place: Path) -> None:
    """A pod may leave such a link where another pod's hostPath is to be made."""
    shared = place / "shared"
    shared.mkdir()
    (shared / "file").symlink_to(place / "host" / "made")
    (shared / "folder").symlink_to(place / "host" / "folder")
    for path, kind in (("file", "FileOrCreate"), ("folder", "DirectoryOrCreate"), ("folder/x", "DirectoryOrCreate")):
        with pytest.raises(OSError):
            prepare_host_path(str(shared / path), kind)
    assert prepare_host_path(str(shared / "a" / "b"), "DirectoryOrCreate").is_dir()
    assert untouched(place)
    # But links of the host's own are followed, as everywhere.
    (place / "here").symlink_to(shared)
    assert prepare_host_path(str(place / "here" / "new"), "FileOrCreate").is_file()
    assert (shared / "new").is_file()


def test_links_to_logs_are_made_and_removed_in_their_folder_only(place: Path) -> None:
    (place / "log").mkdir()
    (place / "log" / "containers").symlink_to(place / "host")
    with pytest.raises(OSError):
        open_links(place / "log" / "containers")
    logs, links = place / "log" / "pods", place / "log" / "links"
    (logs / "p").mkdir(parents=True)
    (logs / "p" / "0.log").touch()
    collector = ContainerGC(None, str(logs), str(links))  # type: ignore[arg-type]
    with open_links(links) as opened:
        for name, target in (("live", logs / "p/0.log"), ("dead", logs / "p/1.log"), ("other", place / "gone")):
            os.symlink(target, f"{name}.log", dir_fd=opened.descriptor)
    (links / "file.log").touch()
    collector._remove_dead_links()
    assert sorted(os.listdir(links)) == ["file.log", "live.log", "other.log"]
    assert untouched(place)
