"""``/version``. The version of the API that is served, which clients compare with their own."""

from __future__ import annotations

import platform

import tiphys

MAJOR, MINOR = "1", "36"


def version_info() -> dict[str, str]:
    python = f"python{platform.python_version()}"
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": MAJOR,
        "minor": MINOR,
        "emulationMajor": MAJOR,
        "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR,
        "minCompatibilityMinor": str(int(MINOR) - 1),
        "gitVersion": f"v{MAJOR}.{MINOR}.0+tiphys-{tiphys.__version__}",
        "gitCommit": f"tiphys-{tiphys.__version__}",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": python,
        "compiler": platform.python_implementation().lower(),
        "platform": f"{platform.system().lower()}/{machine}",
    }
