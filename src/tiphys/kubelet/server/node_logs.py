"""GET /logs/: files and folders under /var/log. Pods may write there, so no link out of it is followed.

Source: https://kubernetes.io/docs/concepts/cluster-administration/system-logs/#log-query
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from tiphys.kubelet.server import answers
from tiphys.runtime.system.folders import Folder
from tiphys.wire.http import Response, Sink

_BLOCK = 64 * 1024


def node_logs(root: Path, path: str) -> Response:
    """The file, written as its reader takes it, or the names in a folder."""
    try:
        with Folder.at(root) as folder:
            opened = folder.open(path.strip("/") or ".", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, follow=True)
    except FileNotFoundError:
        return answers.text(404, "404 page not found")
    except OSError:
        return answers.text(403, "403 Forbidden")
    kind = os.fstat(opened).st_mode
    if stat.S_ISREG(kind):
        file = os.fdopen(opened, "rb")
        return Response(200, {"Content-Type": "text/plain; charset=utf-8"}, lambda sink: _send(sink, file))
    try:
        return _listing(opened) if stat.S_ISDIR(kind) else answers.text(404, "404 page not found")
    finally:
        os.close(opened)


def _listing(folder: int) -> Response:
    from html import escape  # its table of entities is 0.8 MB, for a page that nobody may ever ask for

    with os.scandir(folder) as entries:
        names = sorted(entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "") for entry in entries)
    lines = "".join(f'<a href="{quote(name)}">{escape(name)}</a>\n' for name in names)
    return Response(200, {"Content-Type": "text/html; charset=utf-8"}, f"<pre>\n{lines}</pre>\n".encode())


async def _send(sink: Sink, file: BinaryIO) -> None:
    with file:
        while not sink.closed and (block := file.read(_BLOCK)):
            sink.write(block)
            await sink.drain()
