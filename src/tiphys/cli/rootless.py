"""A cluster of an ordinary user: the same commands, as root of a user namespace of theirs.

`tiphys up` makes the namespaces (users, mounts, network) by rootlesskit, with a network by slirp4netns, and runs itself
in them; every other command that has to do with the cluster runs itself there too. Sources: KEP-2033, and
https://rootlesscontaine.rs/getting-started/common/
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tiphys.cli.console import fail

COMMANDS = ("up", "down", "status", "reset", "logs", "demo", "image", "backup", "restore", "torture")
_START_SECONDS = 20.0
_PROGRAMS = {"rootlesskit": "rootlesskit", "slirp4netns": "slirp4netns", "newuidmap": "uidmap", "nsenter": "util-linux"}
_LEAST_IDS = 65536


def relay(name: str, words: Sequence[str]) -> int | None:
    """Run a command in the user's namespaces; its exit status. None if it is to run as it is."""
    if os.geteuid() == 0 or name not in COMMANDS or {"-h", "--help"} & set(words):
        return None
    home = Path.home() / ".local/share/tiphys"
    os.environ["TIPHYS_DATA_DIR"] = str(home)
    state = home.with_name("tiphys-rootless")
    inside = _inside(state)
    if not inside:
        if name != "up":
            return None
        if problems := missing():
            fail("this user cannot run a cluster yet:", *(f"  - {problem}" for problem in problems))
        inside = _make(state, _port(words))
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"  # an ordinary user has no such
    status = subprocess.run(_entered(inside, name, words), env={**os.environ, "PATH": path}, check=False).returncode
    if (name in ("down", "reset") and status == 0) or not (home / "cluster.json").exists():
        _end(state)  # there is nothing in them
    return status


def missing() -> list[str]:
    """What keeps an ordinary user from a cluster, and how to mend it."""
    problems = []
    if absent := sorted({package for program, package in _PROGRAMS.items() if shutil.which(program) is None}):
        problems.append(f"Programs of these packages are missing. As root: apt-get install {' '.join(absent)}")
    user = pwd.getpwuid(os.geteuid()).pw_name
    for file in (Path("/etc/subuid"), Path("/etc/subgid")):
        if _subordinate(file, user) < _LEAST_IDS:
            remedy = f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
            problems.append(f"{file} gives {user} fewer than {_LEAST_IDS} ids. As root: {remedy}")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        problems.append("/dev/net/tun cannot be opened. As root: chmod 666 /dev/net/tun")
    return problems


def _subordinate(file: Path, user: str) -> int:
    rows = (line.split(":") for line in file.read_text().splitlines()) if file.exists() else ()
    return sum(int(row[2]) for row in rows if len(row) == 3 and row[0] in (user, str(os.geteuid())))


def _port(words: Sequence[str]) -> str:
    """The API server's, which the machine is to reach."""
    for index, word in enumerate(words):
        if word == "--port" and index + 1 < len(words):
            return words[index + 1]
        if word.startswith("--port="):
            return word.partition("=")[2]
    return "6443"


def _make(state: Path, port: str) -> int:
    """Make the namespaces; the process in them that holds them."""
    state.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(state / "kit", ignore_errors=True)
    command = [
        "rootlesskit",
        f"--state-dir={state / 'kit'}",
        "--net=slirp4netns",
        "--mtu=65520",
        "--propagation=rslave",
    ]
    command += ["--slirp4netns-sandbox=auto", "--slirp4netns-seccomp=auto", "--disable-host-loopback"]
    command += ["--copy-up=/etc", "--copy-up=/run", "--copy-up=/var/lib"]
    command += ["--port-driver=builtin", f"--publish=127.0.0.1:{port}:{port}/tcp", "sleep", "infinity"]
    with (state / "log").open("wb") as said:
        kit = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
    deadline = time.monotonic() + _START_SECONDS
    while not ((state / "kit/api.sock").exists() and _inside(state)):
        if kit.poll() is not None or time.monotonic() > deadline:
            kit.terminate()
            fail("the namespaces could not be made:", *(state / "log").read_text(errors="replace").splitlines()[-5:])
        time.sleep(0.05)
    return _inside(state)


def _inside(state: Path) -> int:
    """The process that holds the namespaces; 0 without one. Its number may be another's by now, after a reboot."""
    try:
        pid = int((state / "kit/child_pid").read_text())
        holds = os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")
    except (OSError, ValueError):
        return 0
    return pid if holds else 0


def _entered(pid: int, name: str, words: Sequence[str]) -> list[str]:
    own = [sys.executable, "-m", "tiphys.cli.main", name, *words]
    return [
        "nsenter",
        "--user",
        "--preserve-credentials",
        "--net",
        "--mount",
        f"--wdns={Path.cwd()}",
        f"--target={pid}",
        *own,
    ]


def _end(state: Path) -> None:
    """End the namespaces with the process that holds them: rootlesskit follows."""
    if pid := _inside(state):
        os.kill(pid, signal.SIGTERM)
