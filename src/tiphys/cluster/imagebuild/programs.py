"""The programs that components run, from the machine's packages, and each component as a command of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from tiphys.cluster.imagebuild.python import TIPHYS
from tiphys.cluster.ocilayout import File, ImageError

_NEEDED = {"nft": "nftables", "ip": "iproute2", "iptables": "iptables", "conntrack": "conntrack"}
_XTABLES = tuple(f"{name}{what}" for name in ("iptables", "ip6tables") for what in ("", "-save", "-restore"))
_STORE = ("etcd", "etcdctl")
_DATA = ("/etc/protocols", "/etc/ssl/openssl.cnf", "/etc/ssl/certs/ca-certificates.crt")
_ZONES = Path("/usr/share/zoneinfo")
_NOT_ZONES = {"posix", "right", "localtime", "posixrules"}


def programs(*, etcd: bool) -> list[File]:
    """What the service proxy and the pod network run, and, with ``etcd``, etcd itself where it is installed."""
    files = [_program(name, package) for name, package in _NEEDED.items() if name != "iptables"]
    files += _packet_filter()
    if etcd:
        files += [_program(name, "") for name in _STORE if shutil.which(name)]
    return files


def packet_filter_modules() -> list[File]:
    """The matches and targets of iptables, which it opens by name."""
    folders = (folder for folder in Path("/usr/lib").glob("*/xtables") if folder.is_dir())
    paths = (path for folder in folders for path in sorted(folder.glob("*.so")))
    return [
        File(str(path).lstrip("/"), link=os.readlink(path))
        if path.is_symlink()
        else File(str(path).lstrip("/"), source=path)
        for path in paths
    ]


def commands(components: Iterable[str], there: Iterable[str]) -> list[File]:
    """Each component as a program in the search path, but those that ``there`` has already; and ``tiphys``."""
    taken = set(there)
    ours = [name for name in components if name not in taken]
    return [
        File("usr/local/bin/tiphys", _launcher("sys.argv[1:]")),
        *(File(f"usr/local/bin/{name}", _launcher(f"[{name!r}, *sys.argv[1:]]")) for name in ours),
    ]


def _launcher(words: str) -> bytes:
    # -P: no module of the working directory takes the place of one of ours
    return (
        f"#!/{TIPHYS}/bin/python3 -P\nimport sys\n\nfrom tiphys.cli.main import main\n\nsys.exit(main({words}))\n"
    ).encode()


def system_files() -> list[File]:
    """What a C library and a TLS client look for in /etc and /usr/share, and where a process may write."""
    files = [
        File(
            "etc/passwd",
            b"root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
            mode=0o644,
        ),
        File("etc/group", b"root:x:0:\nnogroup:x:65534:\n", mode=0o644),
        File("etc/nsswitch.conf", b"hosts: files dns\n", mode=0o644),
        *(File(path.lstrip("/"), source=Path(path).resolve(), mode=0o644) for path in _DATA if Path(path).is_file()),
    ]
    return [*files, *_time_zones()]


def _time_zones() -> list[File]:
    """What a CronJob's time zone means."""
    if not _ZONES.is_dir():
        raise ImageError("no time zones found for CronJobs; install the package tzdata")
    paths = (p for p in sorted(_ZONES.rglob("*")) if p.is_file() and p.relative_to(_ZONES).parts[0] not in _NOT_ZONES)
    return [File(str(path).lstrip("/"), source=path.resolve(), mode=0o644) for path in paths]


def merged_folders() -> list[File]:
    """The folders of a root, with Debian's links of the merged /usr."""
    folders = ("dev", "etc", "opt", "proc", "root", "run", "sys", "usr", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin")
    links = ("bin", "lib", "lib64", "sbin")
    return [
        *(File(f"{name}/") for name in folders),
        *(File(name, link=f"usr/{name}") for name in links),
        File("tmp/", mode=0o1777),
        File("var/"),
        File("var/lib/"),
        File("var/run", link="/run"),
    ]


def _packet_filter() -> list[File]:
    """iptables: one program under many names, chosen by Debian's alternatives."""
    program = _program("iptables", _NEEDED["iptables"])
    names = [name for name in _XTABLES if shutil.which(name)]
    return [
        File(f"usr/sbin/{Path(str(program.source)).name}", source=program.source),
        *(File(f"usr/sbin/{name}", link=Path(str(program.source)).name) for name in names),
    ]


def _program(name: str, package: str) -> File:
    place = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if place is None:
        raise ImageError(f"{name} not found, which the image needs; install the package {package}")
    folder = "usr/sbin" if "sbin" in Path(place).parent.parts else "usr/bin"
    return File(f"{folder}/{name}", source=Path(place).resolve())
