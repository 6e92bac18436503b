"""Names of backups in a place, and which of them are old. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

_NAME = re.compile(r"^tiphys-(?P<cluster>[\w.-]+)-(?P<time>\d{8}T\d{6}Z)\.tar\.gz$")
_TIME = "%Y%m%dT%H%M%SZ"


def name_of(cluster: str, now: datetime) -> str:
    """``tiphys-home-20260601T120000Z.tar.gz``: sorts by time."""
    return f"tiphys-{cluster}-{now.astimezone(UTC).strftime(_TIME)}.tar.gz"


def time_of(name: str, cluster: str) -> datetime | None:
    """When a backup of this cluster was made, by its name; None for any other file."""
    match = _NAME.match(name)
    if match is None or match["cluster"] != cluster:
        return None
    return datetime.strptime(match["time"], _TIME).replace(tzinfo=UTC)


def of_cluster(names: Iterable[str], cluster: str) -> list[str]:
    """The backups of this cluster, oldest first. Others' files in the same place are left out, and so left alone."""
    return sorted(name for name in names if time_of(name, cluster) is not None)


def expired(names: Iterable[str], cluster: str, keep: int) -> list[str]:
    """Those to remove so that the newest ``keep`` stay; at least one stays."""
    ours = of_cluster(names, cluster)
    return ours[: -max(keep, 1)]


def clusters(names: Iterable[str]) -> set[str]:
    """The clusters that these are backups of."""
    return {match["cluster"] for name in names if (match := _NAME.match(name)) is not None}
