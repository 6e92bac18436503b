"""Big lists: the same bytes in pieces as at once, the loop given back between them, and a reader that is waited for."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import orjson
import pytest

from tests.apiserver.apiworld import ADMIN, World, pod, run
from tests.apiserver.baseobjects import BASES
from tiphys.apiserver.config import Config
from tiphys.apiserver.endpoints import biglists
from tiphys.wire.http import Response
from tiphys.wire.memory import MemorySink

TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
PARTIAL = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
FORMS = {
    "json": {},
    "pretty": {"user_agent": "curl/8"},
    "yaml": {"accept": "application/yaml"},
    "protobuf": {"accept": "application/vnd.kubernetes.protobuf"},
    "table": {"accept": TABLE},
    "metadata": {"accept": PARTIAL},
    "gzip": {"accept_encoding": "gzip"},
}
PATHS = ["/api/v1/pods", "/api/v1/namespaces/default/pods?limit=7", "/apis/events.k8s.io/v1/events",
         "/apis/autoscaling/v1/horizontalpodautoscalers"]  # fmt: skip
SCALERS = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
EVENTS = "/api/v1/namespaces/default/events"
READER = ("reader", ("system:authenticated",))
PODS = "/api/v1/namespaces/default/pods"


async def read(response: Response) -> bytes:
    """The whole body, unpacked."""
    data = response.body
    if not isinstance(data, bytes):
        assert callable(data)
        sink = MemorySink()
        writing = asyncio.ensure_future(data(sink))
        writing.add_done_callback(lambda _: sink.finish())
        data = b"".join([piece async for piece in sink.take()])
        await writing
        assert int(response.headers.get("Content-Length", len(data))) == len(data)
    return gzip.decompress(data) if response.headers.get("Content-Encoding") == "gzip" else data


async def reader(world: World) -> None:
    """A user who may read everything."""
    rules = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
    root = "/apis/rbac.authorization.k8s.io/v1"
    await world.raw("POST", f"{root}/clusterroles", {"metadata": {"name": "reader"}, "rules": rules})
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": READER[0]}
    binding = {"metadata": {"name": "reader"}, "roleRef": ref, "subjects": [subject]}
    await world.raw("POST", f"{root}/clusterrolebindings", binding)
    await world.settle()


async def fill(world: World, count: int) -> None:
    await world.json("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    for number in range(count):
        name = {"metadata": {"name": f"o{number}"}}
        about = {"kind": "Pod", "namespace": "default", "name": "p"}
        scaler = BASES["autoscaling", "horizontalpodautoscalers"]
        for path, body in ((PODS, pod(f"p{number}")), (EVENTS, {**name, "involvedObject": about}),
                           (SCALERS, {**scaler, **name})):  # fmt: skip
            assert (await world.raw("POST", path, body)).status == 201


@pytest.mark.parametrize("form", FORMS)
def test_a_list_in_pieces_is_what_it_is_at_once(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        await fill(world, 20)
        for path in PATHS:
            headers: dict[str, Any] = FORMS[form]
            whole = await world.raw("GET", path, **headers)
            assert isinstance(whole.body, bytes)
            with monkeypatch.context() as patch:
                patch.setattr(biglists, "BIG_BYTES", 0)
                patch.setattr(biglists, "PIECE_BYTES", 500)
                patch.setattr(biglists, "SLICE_ITEMS", 3)
                pieces = await world.raw("GET", path, **headers)
            assert callable(pieces.body), path
            assert await read(pieces) == await read(whole), path
            assert pieces.headers["Content-Type"] == whole.headers["Content-Type"]

    run(work)


def test_others_have_many_turns_while_a_big_list_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(biglists, "BIG_BYTES", 0)
    monkeypatch.setattr(biglists, "PIECE_BYTES", 2000)

    async def work(world: World) -> None:
        await fill(world, 30)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.ensure_future(other())
        data = await read(await world.raw("GET", "/api/v1/pods"))
        counting.cancel()
        assert turns >= len(data) // 4000 > 5

    run(work)


def test_a_reader_that_stops_is_waited_for_holds_its_place_and_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(biglists, "BIG_BYTES", 0)
    monkeypatch.setattr(biglists, "PIECE_BYTES", 2000)

    class Slow(MemorySink):
        async def drain(self) -> None:
            await asyncio.Event().wait()

    async def work(world: World) -> None:
        await fill(world, 30)
        await reader(world)
        response = await world.raw("GET", "/api/v1/pods", user=READER)
        assert world.server.gate.in_flight.reading == 1
        sink = Slow()
        assert callable(response.body)
        began = world.clock.monotonic()
        with pytest.raises(ConnectionAbortedError):
            await response.body(sink)
        assert world.clock.monotonic() - began == pytest.approx(60, abs=1)
        assert 2000 <= sink.buffered < 8000
        assert world.server.gate.in_flight.reading == 0
        response = await world.raw("GET", "/api/v1/pods", user=READER)  # nobody runs it
        assert world.server.gate.in_flight.reading == 1
        del response
        assert world.server.gate.in_flight.reading == 0

    run(work)


def test_one_tenants_waiting_reads_leave_administrators_probes_and_the_long_running_through() -> None:
    async def work(world: World) -> None:
        await reader(world)
        revision = int((await world.json("GET", "/api/v1/namespaces/default"))["metadata"]["resourceVersion"])
        path = f"/api/v1/namespaces/default?resourceVersion={revision + 1000}"
        waiting = [asyncio.ensure_future(world.raw("GET", path, user=READER)) for _ in range(5)]
        await asyncio.sleep(0)
        assert world.server.gate.in_flight.reading == 5
        refused = await world.raw("GET", "/api/v1/namespaces/default", user=("other", ("system:authenticated",)))
        assert refused.status == 429
        assert orjson.loads(refused.body)["details"]["retryAfterSeconds"] == 1  # type: ignore[arg-type]
        assert (await world.raw("GET", "/api/v1/namespaces/default", user=ADMIN)).status == 200
        for probe in ("/readyz", "/livez", "/healthz"):
            assert (await world.raw("GET", probe, user=None)).status == 200
        assert (await world.raw("GET", "/readyz/ping", user=None)).status == 429  # the exempt level names three paths
        for long in ("/api/v1/pods?watch=1", "/api/v1/namespaces/default/pods/x/log", "/debug/pprof/x"):
            assert (await world.raw("GET", long, user=("other", ()))).status != 429
        began = world.clock.monotonic()
        answers = await asyncio.gather(*waiting)
        assert {answer.status for answer in answers} == {504}
        assert world.clock.monotonic() - began == pytest.approx(3, abs=0.1)  # no longer than upstream's
        assert world.server.gate.in_flight.reading == 0

    run(work, Config(seed=1, priority_and_fairness=False, max_requests_in_flight=5))
