"""The page's files, as Vite has built them (`npm run build` in ``dashboard/``), in memory and compressed once."""

from __future__ import annotations

import gzip
import hashlib
import secrets
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from tiphys.addons.dashboard import guard
from tiphys.runtime.component import CannotStart
from tiphys.wire.http import Request, Response

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "woff2": "font/woff2",
}
_NONCE = "NONCE-OF-THIS-ANSWER"
"""Stands in the page where each answer has a number of its own."""


class Asset(NamedTuple):
    type: str
    body: bytes
    compressed: bytes
    tag: str


class Assets:
    """Raises ``CannotStart`` if the files are not there."""

    def __init__(self) -> None:
        root = files("tiphys.addons.dashboard").joinpath("web")
        self._files = dict(_read(root, ""))
        page = self._files.pop("/index.html", None)
        if page is None:
            raise CannotStart("the dashboard's files are not built; run `npm install && npm run build` in dashboard/")
        self._page = page.body.decode()

    def answer(self, request: Request) -> Response | None:
        """A file; the page for ``/``; None for what is no file."""
        if request.path == "/":
            return self._answer_page()
        asset = self._files.get(request.path)
        if asset is None:
            return None
        headers = {"Content-Type": asset.type, **guard.asset_headers(asset.tag), "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == asset.tag:
            return Response(304, headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(200, {**headers, "Content-Encoding": "gzip"}, asset.compressed)
        return Response(200, headers, asset.body)

    def _answer_page(self) -> Response:
        nonce = secrets.token_urlsafe(16)
        headers = {"Content-Type": _TYPES["html"], **guard.page_headers(nonce)}
        return Response(200, headers, self._page.replace(_NONCE, nonce).encode())


def _read(folder: Traversable, prefix: str) -> list[tuple[str, Asset]]:
    assets = []
    for entry in folder.iterdir() if folder.is_dir() else ():
        path = f"{prefix}/{entry.name}"
        if entry.is_dir():
            assets += _read(entry, path)
            continue
        body = entry.read_bytes()
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        kind = _TYPES.get(entry.name.rpartition(".")[2], "application/octet-stream")
        assets.append((path, Asset(kind, body, gzip.compress(body, 9, mtime=0), tag)))
    return assets
