"""The feature gates of v1.36, and ``--feature-gates`` over them: what is requested must be what Tiphys does.

The table is data: name, default, stage (ALPHA, BETA, GA, DEPRECATED) and whether the gate is locked. Source:
https://kubernetes.io/docs/reference/command-line-tools-reference/feature-gates/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tiphys.runtime.upstream import boolean

_TABLE = Path(__file__).parent / "data" / "gates.txt"

ALL: Mapping[str, str] = {"AllAlpha": "ALPHA", "AllBeta": "BETA"}
"""Gates that stand for every gate of a stage that is not named itself."""


BOTH_WAYS = frozenset(("CPUManagerPolicyAlphaOptions", "CPUManagerPolicyBetaOptions", "CustomCPUCFSQuotaPeriod"))
"""Gates that Tiphys has on and off; of all others it does what is the default, and nothing else."""


class GateError(ValueError):
    """A gate that is not known, or that cannot have the value that is requested; the message names it."""


@dataclass(frozen=True, slots=True)
class FeatureGate:
    name: str
    default: bool
    stage: str
    locked: bool


@cache
def gates() -> Mapping[str, FeatureGate]:
    """By name, sorted."""
    rows = (line.split("\t") for line in _TABLE.read_text().splitlines())
    return {row[0]: FeatureGate(row[0], row[1] == "true", row[2], len(row) > 3) for row in rows}


def check(asked: Mapping[str, bool]) -> None:
    """Raises ``GateError`` for what upstream would refuse, and for what differs from what Tiphys does."""
    known = gates()
    for name, wanted in asked.items():
        if (gate := known.get(name)) is None:
            raise GateError(f"unrecognized feature gate: {name}")
        if gate.locked and wanted != gate.default:
            raise GateError(
                f"cannot set feature gate {name} to {_go(value=wanted)}, feature is locked to {_go(value=gate.default)}"
            )
        differing = _differing(gate, wanted=wanted, asked=asked)
        if differing is not None:
            raise GateError(
                f"feature gate {name}={_go(value=wanted)} is not supported by Tiphys, in which {differing} is always"
                f" {_go(value=not wanted)}: leave it out"
            )


def _differing(gate: FeatureGate, asked: Mapping[str, bool], *, wanted: bool) -> str | None:
    """The first gate that the wish for ``gate`` would make other than it is in Tiphys."""
    if gate.name in BOTH_WAYS:
        return None
    if gate.name not in ALL:
        return gate.name if wanted != gate.default else None
    if not wanted:  # upstream's default, which turns nothing off
        return None
    named = {*ALL, *BOTH_WAYS}
    members = (other for other in gates().values() if other.stage == ALL[gate.name] and other.name not in named)
    return next((other.name for other in members if not other.default and other.name not in asked), None)


def is_enabled(name: str, asked: Mapping[str, bool]) -> bool:
    """Whether a gate is on, if ``asked`` was asked for."""
    gate = gates()[name]
    whole = next((everything for everything, stage in ALL.items() if stage == gate.stage), "")
    return asked.get(name, bool(asked.get(whole)) or gate.default)


def parse(text: str) -> dict[str, bool]:
    """``Name=true,Other=false``; a component may stand before each (``kube:Name=true``). Raises ``GateError``."""
    asked: dict[str, bool] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        component, colon, rest = part.rpartition(":")
        name, equals, value = rest.partition("=")
        if colon and component != "kube":
            raise GateError(f"component not registered: {component}")
        if not equals:
            raise GateError(f"missing bool value for {name}")
        try:
            asked[name.strip()] = boolean(value.strip())
        except ValueError:
            raise GateError(f"invalid value of {name.strip()}={value.strip()}, which is not a boolean") from None
    check(asked)
    return asked


def _go(*, value: bool) -> str:
    return str(value).lower()
