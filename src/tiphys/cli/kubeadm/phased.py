"""A command in kubeadm's phases, from its words to its end: init, join and reset are such commands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from tiphys.cli.kubeadm import kubeadmflags
from tiphys.cli.kubeadm.kubeadmflags import KubeadmParser
from tiphys.cluster.kubeadm import workflow
from tiphys.cluster.kubeadm.configuration import validate
from tiphys.cluster.kubeadm.layout import HostRoot
from tiphys.cluster.kubeadm.workflow import Data


@dataclass(frozen=True, slots=True)
class PhasedCommand(Generic[Data]):
    """A command that is a sequence of phases, of which one can be run alone."""

    name: str
    phases: Sequence[workflow.CommandPhase[Data]]
    parser: Callable[[str | None], KubeadmParser]
    """The flags of the whole command, or of one phase."""
    prepare: Callable[[Mapping[str, Any]], tuple[Data, list[str]]]
    """What the phases work on, and the names of those to skip."""
    begin: Callable[[Data, str, list[str], Mapping[str, Any]], None] = lambda *_: None
    """Before anything is done: of a run, the one phase or ``""``, those to skip, and the flags. It may refuse."""
    end: Callable[[Data], None] = lambda _: None
    """After the whole command."""

    def main(self, argv: Sequence[str]) -> int:
        """Run it; returns the exit status."""
        return kubeadmflags.run(lambda: self._main(argv))

    def _main(self, argv: Sequence[str]) -> int:
        phase, flags = kubeadmflags.split_phase(argv, self.name)
        if phase == "list":
            print(workflow.listing(self.phases))
            return 0
        given = self.parser(phase).values(flags)
        kubeadmflags.configure_logs(given)
        context, skipped = self.prepare(given)
        only = phase or ""
        workflow.selected(self.phases, only, skipped)  # a name that no phase has is an error before anything is done
        self.begin(context, only, skipped, given)
        asyncio.run(workflow.run(self.phases, context, only=only, skipped=skipped))
        if phase is None:
            self.end(context)
        return 0


def skipped_phases(given: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """Those that a flag names, or else the command's document."""
    return list(given.get("skip-phases") or document.get("skipPhases") or [])


def ignored_checks(given: Mapping[str, Any], document: Mapping[str, Any]) -> frozenset[str]:
    """Checks whose failures only warn: those of the flag and of the document. Raises ``ConfigurationError``."""
    flagged = given.get("ignore-preflight-errors", ())
    return validate.ignored_checks(flagged, document.get("ignorePreflightErrors") or ())


def run_places(given: Mapping[str, Any], document: Mapping[str, Any], command: str) -> tuple[HostRoot, bool]:
    """Where files are written, and whether it is a dry run, whose files get a folder of their own."""
    places = kubeadmflags.places_of(given)
    if not bool(given.get("dry-run", document.get("dryRun", False))):
        return places, False
    return kubeadmflags.dry_run_places(places, f"tiphys-{command}-dryrun"), True
