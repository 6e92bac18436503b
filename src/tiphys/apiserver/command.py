"""``tiphys kube-apiserver``: the API server alone, with upstream's flags.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import ssl
from collections.abc import Sequence
from functools import partial

from tiphys.apiserver.configuring import configuration
from tiphys.apiserver.dialer import SocketDialer
from tiphys.apiserver.flags import parser
from tiphys.apiserver.running import served
from tiphys.apiserver.serving import serving
from tiphys.apiserver.workers import Seat, among_workers, seat_workers, store_of
from tiphys.runtime.clock import Clock, SystemClock, backoff
from tiphys.runtime.component import CannotStart, by_verbosity, refusing, start
from tiphys.runtime.flags import FlagParser
from tiphys.store.backend import Backend, StoreError, Unavailable
from tiphys.validation.pods.capabilities import ALLOWED
from tiphys.wire.reserving import reserve
from tiphys.wire.tls.contexts import client_context
from tiphys.wire.tls.following import FollowedCertificate

log = logging.getLogger(__name__)

STORE_SECONDS = 20.0
"""For how long a start waits for etcd to answer."""


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys kube-apiserver``, in one process or in several; returns the exit status."""
    flags_parser = parser()
    flags = flags_parser.parse(argv)

    def serve(seat: Seat | None = None) -> int:
        return start(flags_parser, flags, lambda flags: run(flags, flags_parser, seat))

    if flags.workers == 1:
        return serve()
    by_verbosity(flags)
    try:
        with refusing(OSError, ValueError):
            configuration(flags, flags_parser)  # what is wrong with it is said once
        return seat_workers(flags.workers, flags.bind_address, flags.secure_port, serve)
    except CannotStart as error:
        flags_parser.error(str(error))


async def run(flags: argparse.Namespace, flags_parser: FlagParser, seat: Seat | None = None) -> None:
    """Make an API server and serve until cancelled; with a ``seat``, as one of several workers."""
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        with refusing(OSError, ValueError, StoreError, ssl.SSLError):
            if seat is not None:
                await seat.wait_for_first(clock)
            config = configuration(flags, flags_parser)
            ALLOWED.privileged = flags.allow_privileged
            context = served(
                config,
                serving(flags, config, clock),
                open_store=lambda clock: open_store(flags, clock, seat),
                clock=clock,
                dialer=_dialer(flags),
                beside=None if seat is None else partial(among_workers, seat),
                listening=partial(reserve, flags.bind_address, flags.secure_port, shared=True)
                if seat is not None or flags.permit_port_sharing
                else None,
            )
            await stack.enter_async_context(context)
        if seat is not None:
            seat.serves()
        await asyncio.Event().wait()


async def open_store(flags: argparse.Namespace, clock: Clock, seat: Seat | None = None) -> Backend:
    """Etcd if its servers are named, otherwise the embedded store, which one worker keeps for all."""
    if flags.etcd_servers:
        return await reached(_etcd(flags, clock), clock)
    from tiphys.store.sqlite import SQLiteBackend

    opened = partial(SQLiteBackend.open, flags.data_dir, clock, accept_loss=flags.accept_data_loss)
    return await store_of(seat, opened, clock)


async def reached(store: Backend, clock: Clock) -> Backend:
    """The store, once a member of it answers: etcd may be starting, beside this server. Raises ``StoreError``."""
    given_up = clock.monotonic() + STORE_SECONDS
    for delay in backoff(0.1, 2, 1):
        try:
            await store.current_revision()
        except Unavailable as error:
            if clock.monotonic() + delay > given_up:
                await store.close()
                raise
            log.info("waiting for etcd: %s", error)
            await clock.sleep(delay)
            continue
        except StoreError:
            await store.close()
            raise
        break
    return store


def _etcd(flags: argparse.Namespace, clock: Clock) -> Backend:
    from tiphys.store.etcdchannel import ClientTLS
    from tiphys.store.etcdclient import EtcdBackend

    tls = ClientTLS(flags.etcd_cafile, flags.etcd_certfile, flags.etcd_keyfile) if flags.etcd_cafile else None
    return EtcdBackend(flags.etcd_servers.split(","), tls=tls, clock=clock)


def _dialer(flags: argparse.Namespace) -> SocketDialer | None:
    if flags.kubelet_client_certificate is None:
        return None
    certificate, key = flags.kubelet_client_certificate, flags.kubelet_client_key
    authority = flags.kubelet_certificate_authority
    # Without an authority, kubelets sign their own certificates, as kubeadm's do: nobody could verify them.
    context = client_context(authority, certificate, key, verify=authority is not None)
    return SocketDialer(context, certificate=FollowedCertificate.in_files(context, certificate, key))
