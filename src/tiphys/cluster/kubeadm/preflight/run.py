"""Running checks: what is ignored only warns, and what is left ends the command.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-init/#options
"""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.cluster.kubeadm.context import Say
from tiphys.cluster.kubeadm.failures import PreflightError
from tiphys.cluster.kubeadm.preflight.checks import Check


async def run_checks(checks: Iterable[Check], ignored: frozenset[str], warn: Say) -> None:
    """Raises ``PreflightError`` once every check has been made, if one found an error."""
    errors: list[str] = []
    for check in checks:
        findings = await check.look()
        faults, warnings = findings.errors, findings.warnings
        if "all" in ignored or check.name.lower() in ignored:
            faults, warnings = [], [*warnings, *faults]
        for text in warnings:
            warn(f"\t[WARNING {check.name}]: {text}")
        errors += [f"\t[ERROR {check.name}]: {text}" for text in faults]
    if errors:
        warn("[preflight] Some fatal errors occurred:\n" + "\n".join(errors))
        warn(
            "[preflight] If you know what you are doing, you can make a check non-fatal with "
            "`--ignore-preflight-errors=...`"
        )
        raise PreflightError("preflight checks failed")
