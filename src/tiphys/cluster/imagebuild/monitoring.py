"""The image of Prometheus and its node exporter: Debian's programs of this machine, with the libraries they load."""

from __future__ import annotations

import shutil
from pathlib import Path

from tiphys.cluster.imagebuild.libraries import shared_libraries
from tiphys.cluster.imagebuild.programs import merged_folders
from tiphys.cluster.ocilayout import File, ImageError, ImageSource

_PROGRAMS = ("prometheus", "prometheus-node-exporter")


def monitoring_image(name: str) -> ImageSource:
    """Raises ``ImageError`` with the package that is missing."""
    paths = [_program(program) for program in _PROGRAMS]
    files = [File(f"usr/bin/{path.name}", source=path.resolve()) for path in paths]
    return ImageSource(name, [*merged_folders(), *files, *shared_libraries(paths, ())])


def _program(name: str) -> Path:
    path = shutil.which(name)
    if path is None:
        raise ImageError(f"no {name} found to assemble an image from; install the package {name}")
    return Path(path)
