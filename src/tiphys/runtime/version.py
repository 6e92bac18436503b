"""The version that every component reports: of the API level, or what ``--version=vX.Y.Z…`` puts in its place.

Clients compare it with their own (``kubectl --match-server-version`` compares version, commit and state of the tree),
so it is that of the release whose API is served. Commit and tree are those that upstream's sources have outside of git,
as this is built from no commit of upstream.
"""

from __future__ import annotations

import platform
import re

import tiphys

MAJOR, MINOR = "1", "36"
_NO_COMMIT = "$Format:%H$"
_SEMANTIC = re.compile(
    r"v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
).fullmatch

_reported = tiphys.KUBERNETES_VERSION


def git_version() -> str:
    """``v1.36.0``, or what ``report`` was given."""
    return _reported


def report(version: str) -> None:
    """Report another version of the same release, such as ``v1.36.0-custom``. Raises ``ValueError``."""
    global _reported
    given, own = _SEMANTIC(version), _SEMANTIC(tiphys.KUBERNETES_VERSION)
    assert own is not None
    if given is None:
        raise ValueError(f'could not parse "{version}" as version')
    if given.group(1, 2, 3) != own.group(1, 2, 3):
        raise ValueError(
            f'version "{version}" must match major/minor/patch of default version "{tiphys.KUBERNETES_VERSION}"'
        )
    _reported = version


def version_info() -> dict[str, str]:
    """The Info object of ``/version``."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": MAJOR,
        "minor": MINOR,
        "emulationMajor": MAJOR,
        "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR,
        "minCompatibilityMinor": str(int(MINOR) - 1),
        "gitVersion": git_version(),
        "gitCommit": _NO_COMMIT,
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": f"tiphys-{tiphys.__version__}",
        "platform": f"{platform.system().lower()}/{machine}",
    }


def raw_text() -> str:
    """The same as Go prints a struct: what ``--version=raw`` shows."""
    info = version_info()
    fields = ", ".join(f'{name[0].upper()}{name[1:]}:"{value}"' for name, value in info.items())
    return f"version.Info{{{fields}}}"
