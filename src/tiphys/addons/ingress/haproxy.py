"""The running haproxy: files are checked before they are used, and a reload hands its listening sockets on.

The master process, which the supervisor keeps, starts new workers on a reload; the old ones finish what they have.
Endpoints are changed in the running workers. Source: https://docs.haproxy.org/2.6/management.html
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
from pathlib import Path

from tiphys.addons.ingress.configuration import Listening, commands, files_of, same_but_targets
from tiphys.addons.ingress.model import Routing, ServedCertificate
from tiphys.controlkit import haproxy
from tiphys.controlkit.haproxy import NotChecked, ProxyError
from tiphys.wire.tls.selfsigned import make_certificate

log = logging.getLogger(__name__)

_PROBE = "global\n  log stderr format raw daemon\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n"
_PROBE += "  timeout server 1s\nfrontend probe\n  bind unix@{folder}/probe.sock ssl crt {folder}/probe.pem\n"


class HAProxy:
    """``folder`` is its own; ``haproxy.cfg`` there leads to the files in use."""

    def __init__(self, folder: Path, listening: Listening) -> None:
        self._folder, self._listening = folder, listening
        self._routing: Routing | None = None
        self._good: dict[bytes, bool] = {}
        """By the hash of its content, whether haproxy takes a certificate."""

    @property
    def configuration(self) -> Path:
        return self._folder / "haproxy.cfg"

    @property
    def master_socket(self) -> Path:
        return self._folder / "master.sock"

    def command(self) -> list[str]:
        """How it is started."""
        return haproxy.command(self.configuration, self.master_socket)

    def prepare(self) -> None:
        """Let there be a configuration to start with: the last one, or one that serves nothing."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.configuration.exists():
            self._use(self._write(Routing()))

    async def bad_certificates(self, certificates: tuple[ServedCertificate, ...]) -> set[str]:
        """The names of those that haproxy does not take: one of them would keep all others from being served.

        Raises ``NotChecked``: nothing is held against a certificate then."""
        bad = set()
        for certificate in certificates:
            digest = hashlib.sha256(certificate.pem).digest()
            if digest not in self._good:
                self._good[digest] = await self._takes(certificate.pem)
            if not self._good[digest]:
                bad.add(certificate.name)
        known = {hashlib.sha256(certificate.pem).digest() for certificate in certificates}
        self._good = {digest: good for digest, good in self._good.items() if digest in known}
        return bad

    async def _takes(self, pem: bytes) -> bool:
        folder = self._folder / "probe"
        folder.mkdir(exist_ok=True, mode=0o700)
        _write_private(folder / "probe.pem", pem)
        _write_private(folder / "haproxy.cfg", _PROBE.format(folder=folder).encode())
        try:
            await haproxy.check(folder / "haproxy.cfg")
        except NotChecked:
            raise
        except ProxyError as error:
            log.info("a certificate is not taken: %s", error)
            return False
        return True

    async def apply(self, routing: Routing) -> bool:
        """Serve this from now on; whether that took a reload. Raises ``ProxyError``, and serves on what it did."""
        before = self._routing
        if before == routing:
            return False
        written = await asyncio.to_thread(self._write, routing)
        if before is not None and same_but_targets(before, routing):
            self._use(written)
            self._routing = None  # until it is known to be so: what fails half-way is loaded again as a whole
            await self._change(commands(before, routing))
            self._routing = routing
            return False
        await haproxy.check(written / "haproxy.cfg")
        self._use(written)
        self._routing = None
        await haproxy.reload(self.master_socket)
        self._routing = routing
        return True

    def _write(self, routing: Routing) -> Path:
        """Write the files to a folder named for what is in them."""
        place = Path("/folder")
        content = files_of(routing, self._listening, place, b"")
        digest = hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()[:16]
        folder = self._folder / f"served-{digest}"
        if folder.exists():
            return folder
        made = self._folder / f"new-{digest}"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(mode=0o700)
        for name, data in files_of(routing, self._listening, folder, self._default_pem()).items():
            _write_private(made / name, data)
        made.replace(folder)
        return folder

    def _default_pem(self) -> bytes:
        """A certificate of its own for names that nobody has one for; made once."""
        path = self._folder / "default.pem"
        if not path.exists():
            certificate, key = make_certificate(("ingress.invalid",))
            _write_private(path, key + certificate)
        return path.read_bytes()

    def _use(self, written: Path) -> None:
        """Let the next start and the next reload read these files."""
        link = self._folder / ".haproxy.cfg"
        link.unlink(missing_ok=True)
        link.symlink_to(written / "haproxy.cfg")
        link.replace(self.configuration)
        for other in self._folder.glob("served-*"):
            if other != written:
                shutil.rmtree(other, ignore_errors=True)

    async def _change(self, lines: list[str]) -> None:
        """Change endpoints in the running worker. One that starts just now reads them from its files."""
        for start in range(0, len(lines), 100):
            answer = await haproxy.ask(self._listening.socket, "; ".join(lines[start : start + 100]))
            if complaint := _complaint(answer):
                raise ProxyError(complaint)


def _complaint(answer: str) -> str:
    """What an answer says that is neither nothing nor a change of an address."""
    lines = [line for line in answer.splitlines() if line.strip()]
    wrong = [line for line in lines if "no need to change" not in line and "changed from" not in line]
    return "; ".join(wrong)


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
