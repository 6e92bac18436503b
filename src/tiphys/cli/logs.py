"""`tiphys logs COMPONENT`: a component's log, or the end of it, and new lines with ``-f``."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from tiphys.cli.console import fail
from tiphys.cli.options import existing_cluster, parser
from tiphys.cluster.nodes import further_nodes
from tiphys.cluster.settings import Settings


def main(argv: Sequence[str]) -> int:
    options = parser("logs", "Show a component's log.")
    options.add_argument("component", help="a name that `tiphys status` shows, or supervisor")
    options.add_argument("--node", default="", help="a further node's name (default: the first node)")
    options.add_argument("-f", "--follow", action="store_true", help="show new lines as they are written")
    options.add_argument("--tail", type=int, default=-1, metavar="N", help="only the last N lines")
    arguments = options.parse_args(argv)
    folder = _node(existing_cluster(arguments.data_dir), arguments.node).logs
    path = folder / f"{arguments.component}.log"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in folder.glob("*.log"))) or "none yet"
        fail(f"no log of {arguments.component!r}; choose from: {names}")
    show(path, arguments.tail, follow=arguments.follow)
    return 0


def _node(cluster: Settings, name: str) -> Settings:
    """The settings of the node called ``name``; ends the command if none exists."""
    if name in ("", cluster.node_name):
        return cluster
    known = further_nodes(cluster)
    if name not in known:
        fail(f"no node {name}; choose from: {', '.join([cluster.node_name, *known])}")
    return known[name]


def show(path: Path, tail: int, *, follow: bool) -> None:
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = file if tail < 0 else deque(file, tail)
        sys.stdout.writelines(lines)
        sys.stdout.flush()
        while follow:
            if text := file.read():
                sys.stdout.write(text)
                sys.stdout.flush()
            elif path.stat().st_size < file.tell():  # it was rotated
                file.seek(0)
            else:
                time.sleep(0.2)
