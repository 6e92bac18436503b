"""The running interpreter and what it imports: the standard library, and the distributions that Tiphys requires.

In the image the interpreter is at /opt/python, wherever it is here (/usr, pyenv's folder), and Tiphys with its
distributions is a virtual environment at /opt/tiphys: so a Debian interpreter, which looks for ``dist-packages``, and
any other find them in one place.

Sources: PEP 405 (pyvenv.cfg), PEP 376 and PEP 566 (a distribution's files and metadata).
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import tiphys
from tiphys.cluster.ocilayout import File, ImageError

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
PYTHON = "opt/python"
TIPHYS = "opt/tiphys"
PACKAGES = f"{TIPHYS}/lib/{VERSION}/site-packages"
STANDARD_LIBRARY = f"{PYTHON}/lib/{VERSION}"

_NOT_FOR_SERVERS = {
    "__pycache__", "dist-packages", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tests",
    "tkinter", "turtle.py", "turtledemo", "sitecustomize.py", "usercustomize.py",
}  # fmt: skip
_NOT_IN_PACKAGES = {"__pycache__", "tests", "include", "f2py"}
_NOT_FILES = re.compile(r"(\.a|\.pyi|\.pyc|\.pyx|\.pxd|\.h|\.exe)$|^_tkinter\.|^_test|^_ctypes_test|^xxlimited|^_xx")
_METADATA = {"METADATA", "entry_points.txt", "licenses", "LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING"}


def interpreter() -> list[File]:
    """The interpreter and its standard library, without what no server imports: tests, Tk, the editor, pip."""
    folder = Path(sysconfig.get_path("stdlib"))
    if not (folder / "os.py").is_file():
        raise ImageError(f"the standard library is not in {folder}; only an interpreter with its files can be packed")
    files = [File(f"{PYTHON}/bin/{VERSION}", source=interpreter_program())]
    for path in _walk(folder, _NOT_FOR_SERVERS):
        place = path.relative_to(folder)
        if not place.parts[0].startswith("config-"):
            files += [_file(f"{STANDARD_LIBRARY}/{place}", path)]
    return files


def interpreter_program() -> Path:
    return Path(sys.executable).resolve()


def environment() -> list[File]:
    """What makes /opt/tiphys a virtual environment of the interpreter."""
    return [
        File(
            f"{TIPHYS}/pyvenv.cfg", f"home = /{PYTHON}/bin\ninclude-system-site-packages = false\n".encode(), mode=0o644
        ),
        File(f"{TIPHYS}/bin/python3", link=f"/{PYTHON}/bin/{VERSION}"),
    ]


def distributions() -> list[File]:
    """The files of all distributions that Tiphys requires, and of those that they require."""
    files = []
    for name in sorted(_required("tiphys") - {"tiphys"}):
        distribution = importlib.metadata.distribution(name)
        for entry in distribution.files or ():
            path = Path(str(distribution.locate_file(entry)))
            if ".." not in entry.parts and _wanted(entry.parts) and path.is_file():
                files.append(_file(f"{PACKAGES}/{entry}", path))
    return files


def ourselves() -> list[File]:
    """The package, wherever it is (a checkout too), and its metadata, which name its entry points."""
    folder = package_folder()
    files = [_file(f"{PACKAGES}/tiphys/{p.relative_to(folder)}", p) for p in _walk(folder, {"__pycache__"})]
    distribution = importlib.metadata.distribution("tiphys")
    metadata = [e for e in distribution.files or () if e.parts[0].endswith(".dist-info") and _wanted(e.parts)]
    return [*files, *(_file(f"{PACKAGES}/{e}", Path(str(distribution.locate_file(e)))) for e in metadata)]


def package_folder() -> Path:
    return Path(tiphys.__file__).parent


def packages_folder() -> Path:
    """Where the distributions are on this machine."""
    return Path(sysconfig.get_path("platlib"))


def _required(name: str) -> set[str]:
    """The names of a distribution and of all that it requires on this interpreter, extras left out."""
    seen: set[str] = set()
    ahead = [name]
    while ahead:
        current = _normalized(ahead.pop())
        if current not in seen:
            seen.add(current)
            ahead += _requirements(current)
    return seen


def _requirements(name: str) -> list[str]:
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []  # for another platform or version: pip did not install it either
    names = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines if "extra ==" not in line)
    return [match[0] for match in names if match is not None and _installed(match[0])]


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _wanted(parts: tuple[str, ...]) -> bool:
    if parts[0].endswith(".dist-info"):
        return parts[1] in _METADATA
    return not _NOT_IN_PACKAGES & set(parts) and not _NOT_FILES.search(parts[-1])


def _walk(folder: Path, without: set[str]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in without or _NOT_FILES.search(path.name):
            continue
        if path.is_dir():
            yield from _walk(path, without)
        elif path.is_file():  # not a link that leads nowhere
            yield path


def _file(target: str, path: Path) -> File:
    return File(target, source=path.resolve(), mode=0o755 if path.suffix == ".so" else 0o644)
