"""`tiphys down`: stops the pods and the components in order. The data stays; `tiphys up` continues with it."""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.cli.console import Console, fail
from tiphys.cli.options import existing_cluster, parser
from tiphys.cluster import lifecycle
from tiphys.cluster.networking import network
from tiphys.cluster.nodes import further_nodes
from tiphys.cluster.settings import Settings


def main(argv: Sequence[str]) -> int:
    arguments = parser("down", "Stop the cluster and keep its data.").parse_args(argv)
    settings = existing_cluster(arguments.data_dir)
    console = Console()
    if not any(map(lifecycle.supervisor_pid, (settings, *further_nodes(settings).values()))):
        console.say("The cluster is not running.")
        return 0
    try:
        with console.step("Stopping the pods and the components"):
            end_all(settings)
            network.remove_service_rules(settings)
    except lifecycle.StillRunning as error:
        fail(error, "See `tiphys status` and `tiphys logs supervisor`.")
    return 0


def end_all(settings: Settings) -> None:
    """End the further nodes, then the first with the control plane. Raises ``StillRunning``."""
    lifecycle.stop_all(further_nodes(settings).values())
    lifecycle.stop(settings)
