"""`tiphys envtest`: the folder of programs that controller-runtime's envtest and kubebuilder's projects start.

They look for ``etcd``, ``kube-apiserver`` and ``kubectl`` in ``KUBEBUILDER_ASSETS``. The first two are small scripts
here that run ours. Source: https://book.kubebuilder.io/reference/envtest
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tiphys.cli.console import fail
from tiphys.runtime.flags import CommandParser

PROGRAMS = ("etcd", "kube-apiserver")


def main(argv: Sequence[str]) -> int:
    """Make the folder, print its path, and return the exit status."""
    options = CommandParser("tiphys envtest", "Make a folder of programs for KUBEBUILDER_ASSETS, and print its path.")
    options.add_argument("--dir", type=Path, default=default_folder(), help="the folder (default %(default)s)")
    folder: Path = options.parse_args(argv).dir.absolute()
    try:
        make(folder, shutil.which("kubectl"))
    except OSError as error:
        fail(f"--dir {folder}: {error.strerror}; choose a folder that you may write")
    if not (folder / "kubectl").exists():
        print("tiphys: no kubectl on the PATH; only suites that call it need one", file=sys.stderr)
    print(folder)
    return 0


def default_folder() -> Path:
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "tiphys" / "envtest"


def make(folder: Path, kubectl: str | None) -> None:
    """Write the programs, and a link to kubectl if there is one, over what is there. Raises ``OSError``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        _replace(folder / name).write_text(script(name))
        (folder / name).chmod(0o755)
    if kubectl is not None and Path(kubectl).resolve() != (folder / "kubectl").resolve():
        _replace(folder / "kubectl").symlink_to(Path(kubectl).absolute())


def script(component: str) -> str:
    """A program that becomes ``component``, run by the Python that runs now."""
    return f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tiphys.cli.main {component} "$@"\n'


def _replace(path: Path) -> Path:
    path.unlink(missing_ok=True)
    return path
