"""Options that several commands share, and the settings that follow from them."""

from __future__ import annotations

from pathlib import Path

from tiphys.cli.console import fail
from tiphys.cluster.settings import DATA_DIR, Settings, SettingsError
from tiphys.runtime.flags import CommandParser


def parser(name: str, description: str) -> CommandParser:
    """An argument parser for `tiphys NAME` that has `--data-dir`."""
    made = CommandParser(f"tiphys {name}", description)
    made.add_argument(
        "--data-dir", type=Path, default=DATA_DIR, help=f"where the cluster is kept (default {DATA_DIR})", metavar="DIR"
    )
    return made


def existing_cluster(data_dir: Path) -> Settings:
    """The settings of the cluster in ``data_dir``; ends the command if none exists."""
    try:
        settings = Settings.load(data_dir.absolute())
    except SettingsError as error:
        fail(error)
    if settings is None:
        fail(f"no cluster in {data_dir}; start one with `tiphys up`")
    return settings
