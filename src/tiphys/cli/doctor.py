"""`tiphys doctor`: looks at this host, and says what to mend."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tiphys.cli.options import parser
from tiphys.cluster import doctor, lifecycle, machine
from tiphys.cluster.settings import DATA_DIR, RUN_DIR, Settings, SettingsError


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys doctor``; returns 1 if a cluster cannot start here, else 0."""
    options = parser("doctor", "Look at this host, and say what to mend.")
    options.add_argument("--node-ip", help="the node's address (default: that of the default route)")
    arguments = options.parse_args(argv)
    try:
        settings = _settings(arguments)
    except SettingsError as error:
        print(f"✗ the node's address\n    {error}")
        return 1
    running = bool(lifecycle.supervisor_pid(settings))
    examinations = doctor.examine(settings, doctor.KernelView(), running=running)
    print("\n".join(map(render, examinations)))
    errors = sum(len(each.errors) for each in examinations)
    warnings = sum(len(each.warnings) for each in examinations)
    print(f"\n{len(examinations)} checks, {errors} to mend, {warnings} to know.")
    return 1 if errors else 0


def render(examination: doctor.Examination) -> str:
    """One line for a check that passes, and each finding with its remedy below one that does not."""
    sign = "✗" if examination.errors else "!" if examination.warnings else "✓"
    findings = (str(problem).replace("\n", "\n  ") for problem in (*examination.errors, *examination.warnings))
    return "\n".join([f"{sign} {examination.name}", *(f"    {finding}" for finding in findings)])


def _settings(arguments: argparse.Namespace) -> Settings:
    """Those of the cluster that is here, or those that one would have."""
    data_dir: Path = arguments.data_dir.absolute()
    existing = Settings.load(data_dir)
    if existing is not None:
        return existing
    return Settings(
        data_dir=data_dir,
        run_dir=RUN_DIR if data_dir == DATA_DIR else data_dir / "run",
        node_name=machine.node_name(),
        node_ip=arguments.node_ip or machine.node_address(),
    )
