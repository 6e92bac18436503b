"""A command as a table of phases: listed, run by name, skipped by name, in one order.

A phase is named by its path, ``certs/apiserver``; a parent stands for all of its children. Source:
https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-init/#init-workflow
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tiphys.cluster.kubeadm.failures import ConfigurationError, KubeadmError

Data = TypeVar("Data")
Run = Callable[[Data], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class CommandPhase(Generic[Data]):
    """One row. ``run`` of a parent comes before its children."""

    name: str
    purpose: str
    run: Run[Data] | None = None
    children: tuple[CommandPhase[Data], ...] = ()


@dataclass(frozen=True, slots=True)
class PhaseStep(Generic[Data]):
    path: str
    phase: CommandPhase[Data]


def steps(phases: Iterable[CommandPhase[Data]], prefix: str = "") -> Iterator[PhaseStep[Data]]:
    """Every phase with its path, parents before children."""
    for phase in phases:
        path = f"{prefix}/{phase.name}" if prefix else phase.name
        yield PhaseStep(path, phase)
        yield from steps(phase.children, path)


def listing(phases: Sequence[CommandPhase[Data]]) -> str:
    """The table that help shows: children are indented."""
    rows = []
    for step in steps(phases):
        inner = "/" in step.path
        shown = f"  /{step.phase.name}" if inner else step.path
        rows.append((shown, f"  {step.phase.purpose}" if inner else step.phase.purpose))
    width = max(len(shown) for shown, _ in rows)
    return "\n".join(f"{shown:{width}} {purpose}" for shown, purpose in rows)


def selected(
    phases: Sequence[CommandPhase[Data]], only: str = "", skipped: Iterable[str] = ()
) -> list[PhaseStep[Data]]:
    """What runs, in order. Raises ``ConfigurationError`` for a name that no phase has."""
    every = list(steps(phases))
    known = {step.path for step in every}
    dropped = [name for name in skipped if name]
    for name in [*dropped, *([only] if only else [])]:
        if name not in known:
            raise ConfigurationError(f"invalid phase name: {name}; known phases: {', '.join(sorted(known))}")
    return [
        step
        for step in every
        if (not only or _within(step.path, only)) and not any(_within(step.path, name) for name in dropped)
    ]


async def run(phases: Sequence[CommandPhase[Data]], data: Data, *, only: str = "", skipped: Iterable[str] = ()) -> None:
    """Run the selected phases in order. Raises ``KubeadmError`` that names the phase."""
    for step in selected(phases, only, skipped):
        if step.phase.run is None:
            continue
        try:
            await step.phase.run(data)
        except ConfigurationError:
            raise
        except KubeadmError as error:
            raise PhaseError(step.path, str(error)) from error
        except OSError as error:
            file = error.filename2 or error.filename
            raise PhaseError(step.path, f"{file}: {error.strerror}" if file else str(error)) from error


class PhaseError(KubeadmError):
    """What a phase failed with, named as upstream names it, and that a second run continues."""

    def __init__(self, phase: str, cause: str) -> None:
        super().__init__(
            f"error execution phase {phase}: {cause}\n"
            "Once that is mended, run the same command again: it continues from what is there"
        )
        self.phase = phase


def _within(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}/")
