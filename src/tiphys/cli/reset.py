"""`tiphys reset`: stops the cluster of `tiphys up` and removes everything that it made, its data included.

On a node of `tiphys init` or `tiphys join` it is kubeadm's: see ``resetnode``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tiphys.cli.console import Console, fail
from tiphys.cli.down import end_all
from tiphys.cli.kubeadm import resetnode
from tiphys.cli.options import existing_cluster, parser
from tiphys.cluster import lifecycle
from tiphys.cluster.reset import remove_everything


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys reset``; returns the exit status. Asks first unless ``--yes`` is given."""
    if resetnode.is_node(argv):
        return resetnode.main(argv)
    options = parser("reset", "Stop the cluster and remove everything that it made, its data included.")
    options.add_argument("-y", "--yes", action="store_true", help="skip the prompt")
    arguments = options.parse_args(argv)
    settings = existing_cluster(arguments.data_dir)
    if not arguments.yes and not _agreed(f"Remove the cluster in {settings.data_dir} with all its data?"):
        fail("nothing was removed; pass --yes to skip the prompt")
    console = Console()
    try:
        with console.step("Stopping the pods and the components"):
            end_all(settings)
    except lifecycle.StillRunning as error:
        fail(error, "See `tiphys status`.")
    with console.step("Removing what the cluster made"):
        problems = remove_everything(settings)
    if problems:
        fail("not everything could be removed; a second `tiphys reset` tries again:", *problems)
    return 0


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
