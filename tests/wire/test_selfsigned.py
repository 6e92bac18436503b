"""The pair that a server makes for itself: one, whole, however many make it and whenever they are killed."""

from __future__ import annotations

import multiprocessing
import os
import ssl
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tiphys.wire.tls import selfsigned
from tiphys.wire.tls.selfsigned import ensure_certificate

NAMES = ("localhost", "127.0.0.1")


def loads(certificate: Path, key: Path) -> None:
    """Raises SSLError (KEY_VALUES_MISMATCH) if they are no pair."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)


def _start(folder: Path, together: Barrier) -> None:
    together.wait()
    loads(*ensure_certificate(folder, NAMES))


def test_servers_that_start_at_the_same_moment_have_one_pair(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for number in range(10):
        together = context.Barrier(4)
        servers = [context.Process(target=_start, args=(tmp_path / str(number), together)) for _ in range(4)]
        for server in servers:
            server.start()
        for server in servers:
            server.join()
        assert [server.exitcode for server in servers] == [0, 0, 0, 0], number
        assert sorted(path.name for path in (tmp_path / str(number)).iterdir()) == ["apiserver.crt", "apiserver.key"]


def test_modes_do_not_depend_on_the_umask_of_others(tmp_path: Path) -> None:
    certificate, key = ensure_certificate(tmp_path, NAMES)
    assert key.stat().st_mode & 0o777 == 0o600
    assert certificate.stat().st_mode & 0o777 == 0o644 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", range(6))
def test_a_server_that_was_killed_at_any_step_leaves_what_the_next_one_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Before each of the two files is written, and before each takes its name; or while the first is half there."""
    steps = 0

    def killing(real):  # type: ignore[no-untyped-def]
        def work(*args):  # type: ignore[no-untyped-def]
            nonlocal steps
            steps += 1
            if steps > step:
                raise Killed
            return real(*args)

        return work

    with monkeypatch.context() as patches:
        patches.setattr(selfsigned, "_write", killing(selfsigned._write))
        patches.setattr(Path, "replace", killing(Path.replace))
        if step < 4:
            with pytest.raises(Killed):
                ensure_certificate(tmp_path, NAMES)
        elif step == 5:
            (tmp_path / "apiserver.crt.new").write_text("half")
    loads(*ensure_certificate(tmp_path, NAMES))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["apiserver.crt", "apiserver.key"]


def test_a_key_alone_is_refused_whatever_lies_beside_it(tmp_path: Path) -> None:
    for name in ("apiserver.key", "apiserver.key.new", "apiserver.crt.new"):
        (tmp_path / name).write_text("given")
    with pytest.raises(ValueError, match=r"apiserver\.crt, certificate and key must be supplied as a pair"):
        ensure_certificate(tmp_path, NAMES)


def test_a_pair_that_is_there_is_used_as_it_is(tmp_path: Path) -> None:
    for name in ("apiserver.key", "apiserver.crt"):
        (tmp_path / name).write_text("given")
    certificate, key = ensure_certificate(tmp_path, NAMES)
    assert (certificate.read_text(), key.read_text()) == ("given", "given")
