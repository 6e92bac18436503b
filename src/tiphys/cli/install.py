"""`tiphys install --systemd`: units, so that a node or a component starts with the machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tiphys.cli.console import fail
from tiphys.cluster import systemd
from tiphys.cluster.containerd import systemd_is_init
from tiphys.runtime.flags import CommandParser

FOLDER = Path("/etc/systemd/system")


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys install``; returns the exit status."""
    options = CommandParser("tiphys install", "Let a node, or single components, start with the machine.")
    add = options.add_argument
    add("--systemd", action="store_true", required=True, help="write systemd units")
    add(
        "units",
        nargs="*",
        metavar="UNIT",
        help=f"{', '.join(systemd.UNITS)} (default {systemd.NODE}: all of `tiphys up`)",
    )
    add("--folder", type=Path, default=FOLDER, metavar="DIR", help=f"where units go (default {FOLDER})")
    add("--print", action="store_true", help="print the units and write nothing")
    arguments = options.parse_args(argv)
    names = arguments.units or [systemd.NODE]
    if unknown := [name for name in names if name not in systemd.UNITS]:
        fail(f"no unit {unknown[0]!r} is known; choose of {', '.join(systemd.UNITS)}")
    texts = {name: systemd.render(name, str(program())) for name in names}
    if arguments.print:
        print("\n".join(texts.values()), end="")
        return 0
    for name, text in texts.items():
        _write(arguments.folder / f"{name}.service", text)
    if arguments.folder == FOLDER and systemd_is_init():
        subprocess.run(["systemctl", "daemon-reload"], check=True)
    print(f"Start with `systemctl enable --now {' '.join(names)}`.")
    return 0


def program() -> Path:
    """The path of `tiphys` beside the interpreter that runs now."""
    return Path(sys.executable).parent / "tiphys"


def _write(path: Path, text: str) -> None:
    if path.exists() and not path.read_text().startswith(systemd.MARK):
        fail(f"{path} is there and was not written by `tiphys install`; move it away first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}")
    print(path)
