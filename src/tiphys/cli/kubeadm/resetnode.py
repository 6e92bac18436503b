"""`tiphys reset` on a node of `tiphys init` or `tiphys join`: what these made is removed.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-reset/
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiphys.cli.kubeadm import kubeadmflags, phased
from tiphys.cli.kubeadm.kubeadmflags import KubeadmParser, warn
from tiphys.cli.kubeadm.phased import PhasedCommand
from tiphys.cluster.kubeadm import layout, workflow
from tiphys.cluster.kubeadm.configuration import documents, fromflags, load
from tiphys.cluster.kubeadm.configuration.dynamic import Host
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.cluster.kubeadm.phases.reset import RESET, Resetting

_MORE = """
The reset process does not delete the node from the cluster: `kubectl delete node NAME` on a control plane does.
It does not remove your kubeconfig files, and no network plugin's files but those of the pod network of Tiphys: see
/etc/cni/net.d and $HOME/.kube.
"""


def is_node(argv: Sequence[str]) -> bool:
    """Whether reset is of a node of init or join: what is there says so, or a flag that only this has."""
    words = {word.split("=", 1)[0] for word in argv}
    if words & {"--data-dir", "-y", "--yes"}:
        return False
    own = {"--force", "-f", "--cri-socket", "--cert-dir", "--config", "--rootfs", "--skip-phases", "--dry-run", "phase"}
    return bool(words & own) or any(
        Path(path).exists() for path in (layout.KUBELET_CONF, layout.BOOTSTRAP_CONF, layout.ADMIN)
    )


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys reset`` on a node; returns the exit status."""
    command = PhasedCommand(
        "tiphys reset", RESET, lambda _: parser(), prepare, begin=_begin, end=lambda _: print(_MORE)
    )
    return command.main(argv)


def _begin(run: Resetting, only: str, _: object, given: Mapping[str, Any]) -> None:
    if not (only or given.get("force") or run.reset.get("force") or run.dry_run) and not _agreed():
        raise KubeadmError("aborted reset operation; pass --force to skip the question")


def parser() -> KubeadmParser:
    made = KubeadmParser("tiphys reset", "Undo what init or join did. The phases:\n\n" + workflow.listing(RESET))
    made.text("cert-dir", f"folder of certificates ({layout.PKI})")
    made.switch("cleanup-tmp-dir", f"empty {layout.TEMPORARY} as well")
    made.text("config", "configuration file with a ResetConfiguration")
    made.text("cri-socket", "socket of the container runtime")
    made.switch("dry-run", "say what would be done, and do nothing")
    made.switch("force", "skip the question", short="f")
    made.many("ignore-preflight-errors", "checks that only warn; all for every one")
    made.many("skip-phases", "phases to skip")
    return made


def prepare(given: Mapping[str, Any]) -> tuple[Resetting, list[str]]:
    """The run, and the phases to skip. Raises ``ConfigurationError``."""
    if path := given.get("config"):
        fromflags.refuse_mixture({name: value for name, value in given.items() if name != "force"})
        read = documents.read_file(Path(path))
        documents.wanted(read, "ResetConfiguration")
    else:
        read = fromflags.documents_of(given, fromflags.RESET_FLAGS)
    host = Host.this()
    reset = load.reset_configuration(read, host)
    ignored = phased.ignored_checks(given, reset)
    run = Resetting(
        reset,
        kubeadmflags.places_of(given),
        dry_run=bool(given.get("dry-run", reset.get("dryRun", False))),
        ignored=ignored,
        warn=warn,
    )
    return run, phased.skipped_phases(given, reset)


def _agreed() -> bool:
    print("[reset] WARNING: Changes made to this host by 'tiphys init' or 'tiphys join' will be reverted.")
    if not sys.stdin.isatty():
        return False
    return input("[reset] Are you sure you want to proceed? [y/N]: ").strip().lower() in ("y", "yes")
