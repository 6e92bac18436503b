"""The running haproxy: files are checked before they are used, and a reload hands its listening sockets on.

The master process, which the supervisor keeps, starts new workers on a reload; the old ones finish what they have.
Endpoints are changed in the running workers. Source: https://docs.haproxy.org/2.6/management.html
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
from pathlib import Path

from tiphys.addons.ingress.configuration import Listening, commands, files_of, same_but_targets
from tiphys.addons.ingress.model import Routing, ServedCertificate
from tiphys.wire.tls.selfsigned import make_certificate

log = logging.getLogger(__name__)

PROGRAM = "haproxy"
CHECK_SECONDS, ANSWER_SECONDS = 30.0, 10.0
_POLL = 0.05
_PROBE = "global\n  log stderr format raw daemon\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n"
_PROBE += "  timeout server 1s\nfrontend probe\n  bind unix@{folder}/probe.sock ssl crt {folder}/probe.pem\n"


class ProxyError(Exception):
    """What haproxy did not take; the message is what it said."""


class NotChecked(ProxyError):
    """haproxy said nothing: it is not here, or did not end."""


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
        master = f"unix@{self.master_socket},mode,600"
        return [PROGRAM, "-W", "-S", master, "-f", str(self.configuration)]

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
            await self._check(folder / "haproxy.cfg")
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
        await self._check(written / "haproxy.cfg")
        self._use(written)
        self._routing = None
        await self._reload()
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

    async def _reload(self) -> None:
        """Load the files again, and wait until a new worker has them: the next change is for that one."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                before = await self._workers()
                await self._ask(self.master_socket, "reload")
                while not (now := await self._workers()) or now & before:
                    await asyncio.sleep(_POLL)
        except TimeoutError as error:
            raise ProxyError("haproxy has not loaded what was checked to be good; see its log") from error

    async def _workers(self) -> set[str]:
        """The processes that take connections now. Waits for the master, which starts itself again at a reload."""
        deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS
        while True:
            try:
                return _current_workers(await self._ask(self.master_socket, "show proc"))
            except ProxyError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(_POLL)

    async def _check(self, path: Path) -> None:
        """Let a haproxy of its own read the files. Raises ``ProxyError``."""
        try:
            process = await asyncio.create_subprocess_exec(
                PROGRAM, "-c", "-f", str(path), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
            )
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise NotChecked(f"cannot run {PROGRAM}: {reason}; install Debian's package haproxy") from error
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                _, said = await process.communicate()
        except TimeoutError as error:
            raise NotChecked(f"the check of {path} did not end within {CHECK_SECONDS:.0f} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise ProxyError(said.decode(errors="replace")[-1000:].strip())

    async def _change(self, lines: list[str]) -> None:
        """Change endpoints in the running worker. One that starts just now reads them from its files."""
        for start in range(0, len(lines), 100):
            answer = await self._ask(self._listening.socket, "; ".join(lines[start : start + 100]))
            if complaint := _complaint(answer):
                raise ProxyError(complaint)

    async def _ask(self, socket: Path, line: str) -> str:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(str(socket))
                try:
                    writer.write(f"{line}\n".encode())
                    await writer.drain()
                    writer.write_eof()
                    return (await reader.read()).decode(errors="replace")
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (OSError, TimeoutError) as error:
            raise ProxyError(f"haproxy does not answer at {socket}: {error}") from error


def _current_workers(answer: str) -> set[str]:
    """Process ids, from the section of a ``show proc`` that is headed so."""
    section, workers = "", set()
    for line in answer.splitlines():
        if line.startswith("# "):
            section = line
        elif section == "# workers" and (words := line.split()) and words[0].isdigit():
            workers.add(words[0])
    return workers


def _complaint(answer: str) -> str:
    """What an answer says that is neither nothing nor a change of an address."""
    lines = [line for line in answer.splitlines() if line.strip()]
    wrong = [line for line in lines if "no need to change" not in line and "changed from" not in line]
    return "; ".join(wrong)


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
