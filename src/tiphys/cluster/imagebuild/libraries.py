"""The shared libraries that programs and extension modules load, as ``ldd`` names them (ld.so(8))."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tiphys.cluster.ocilayout import File, ImageError

_LOADED = re.compile(r"^\t(?:(?P<name>\S+) => )?(?P<path>/\S+) \(0x")
_AT_ONCE = 200


def shared_libraries(objects: Sequence[Path], packaged: Iterable[Path]) -> list[File]:
    """The libraries of ``objects``, but those below a folder of ``packaged``, which travel with it.

    All are placed in the folder that has the C library, as the loader looks there whatever a program's run path says.
    The loader itself is where programs name it.
    """
    inside = tuple(packaged)
    loaded = dict(_loaded(objects))
    libc = next((path for name, path in loaded.items() if name == "libc.so.6"), None)
    if libc is None:
        raise ImageError("ldd names no C library for Python; only a Python with shared libraries can be packed")
    folder = _merged(libc.parent)
    files = []
    for name, path in sorted(loaded.items()):
        if any(path.is_relative_to(place) for place in inside):
            continue
        target = f"{folder}/{name}" if "/" not in name else _merged(path)
        files.append(File(target, source=path.resolve()))
    return files


def _loaded(objects: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    for at in range(0, len(objects), _AT_ONCE):
        # status 1 only says that one of them is static
        done = subprocess.run(
            ["ldd", *map(str, objects[at : at + _AT_ONCE])], capture_output=True, text=True, check=False
        )
        for line in done.stdout.splitlines():
            if entry := _LOADED.match(line):
                yield entry["name"] or entry["path"], Path(entry["path"])


def _merged(path: Path) -> str:
    """A library's path without the link that Debian's merged /usr made of /lib: ``usr/lib/x86_64-linux-gnu``."""
    text = str(path).lstrip("/")
    return text if text.startswith("usr/") else f"usr/{text}"
