"""What requests leave in the audit log, at each level, from the first stage to the last."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.apiworld import World, run
from tiphys.api.object import Object
from tiphys.apiserver.audit.backend import Batching, Truncating, truncate
from tiphys.apiserver.audit.config import AuditConfig, BatchConfig, Delivery, LogConfig, TruncateConfig
from tiphys.apiserver.audit.logfile import LogBackend, RotatingFile, legacy_line
from tiphys.apiserver.audit.policy import read_policy
from tiphys.apiserver.config import Config
from tiphys.runtime.clock import VirtualClock, VirtualTimeLoop

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
ANN = ("ann", ("dev", "system:authenticated"))


def config(folder: Path, *rules: Object, **policy: Any) -> Config:
    document = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **policy}
    return Config(seed=1, audit=AuditConfig(read_policy(document), LogConfig(str(folder / "audit.log"))))


def events(folder: Path) -> list[Object]:
    return [json.loads(line) for line in (folder / "audit.log").read_text().splitlines()]


def about(level: str, **conditions: Any) -> list[Object]:
    """Rules for the config maps of a namespace, and for nothing else."""
    resources = [{"group": "", "resources": ["configmaps", "secrets"]}]
    return [{"level": level, "resources": resources, "namespaces": ["default"], **conditions}]


def test_metadata_says_who_did_what_and_what_came_of_it(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        created = await world.raw(
            "POST", CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}}, user_agent="test/7", audit_id="id-1"
        )
        assert created.headers["Audit-Id"] == "id-1"
        await world.raw("GET", f"{CONFIG_MAPS}/none?pretty=true", user=ANN)

    run(work, config(tmp_path, *about("Metadata")))
    received, completed, _, refused = events(tmp_path)
    assert (received["stage"], completed["stage"], refused["stage"]) == ("RequestReceived",) + ("ResponseComplete",) * 2
    assert "responseStatus" not in received
    assert received["stageTimestamp"] == received["requestReceivedTimestamp"]
    assert completed == {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": "id-1",
        "stage": "ResponseComplete",
        "requestURI": CONFIG_MAPS,
        "verb": "create",
        "user": {"username": "admin", "groups": ["system:masters", "system:authenticated"]},
        "userAgent": "test/7",
        "objectRef": {"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 201},
        "requestReceivedTimestamp": completed["requestReceivedTimestamp"],
        "stageTimestamp": completed["stageTimestamp"],
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
    }
    assert refused["requestURI"] == f"{CONFIG_MAPS}/none?pretty=true"
    assert refused["responseStatus"]["reason"] == "Forbidden"
    assert refused["annotations"]["authorization.k8s.io/decision"] == "forbid"


@pytest.mark.parametrize(("level", "has"), [("Metadata", ""), ("Request", "q"), ("RequestResponse", "qr")])
def test_objects_by_level(tmp_path: Path, level: str, has: str) -> None:
    async def work(world: World) -> None:
        await world.json("POST", CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}})
        await world.json("PATCH", f"{CONFIG_MAPS}/a", {"data": {"x": "y"}}, content_type="application/merge-patch+json")
        await world.json("GET", CONFIG_MAPS)

    run(work, config(tmp_path, *about(level), omitStages=["RequestReceived"]))
    create, patch, listed = events(tmp_path)
    assert ("requestObject" in create, "responseObject" in create) == ("q" in has, "r" in has)
    assert "requestObject" not in listed
    if "q" in has:
        assert create["requestObject"]["kind"] == "ConfigMap"
        assert create["requestObject"]["data"] == {"k": "v"}
        assert patch["requestObject"] == {"data": {"x": "y"}}
    if "r" in has:
        assert patch["responseObject"]["data"] == {"k": "v", "x": "y"}
        assert "managedFields" in patch["responseObject"]["metadata"]
        assert [item["metadata"]["name"] for item in listed["responseObject"]["items"]] == ["a"]


def test_managed_fields_are_left_out_of_objects_and_lists(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.json("POST", CONFIG_MAPS, {"metadata": {"name": "a"}})
        await world.json("GET", CONFIG_MAPS)
        await world.json("GET", CONFIG_MAPS, accept="application/json;as=Table;v=v1;g=meta.k8s.io")

    run(work, config(tmp_path, *about("RequestResponse"), omitManagedFields=True))
    text = (tmp_path / "audit.log").read_text()
    assert '"name":"a"' in text
    assert "managedFields" not in text


def test_secrets_never_show_above_the_level_of_their_rule(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        path = "/api/v1/namespaces/default/secrets"
        secret = {"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}}
        await world.json("POST", path, secret)
        await world.json("PATCH", f"{path}/s", {"stringData": {"password": "hunter2"}},
                         content_type="application/merge-patch+json")  # fmt: skip
        await world.raw("POST", path, secret)
        await world.raw("PUT", f"{path}/s", b'{"stringData": {"password": "hunter2"')
        await world.json("GET", path)

    run(
        work,
        config(
            tmp_path, {"level": "Metadata", "resources": [{"resources": ["secrets"]}]}, {"level": "RequestResponse"}
        ),
    )
    mine = [line for line in (tmp_path / "audit.log").read_text().splitlines() if '"secrets"' in line]
    assert len(mine) == 10
    assert not [line for line in mine if "hunter2" in line or "aHVudGVyMg" in line]


def test_impersonation_and_a_credential_that_is_refused(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.raw("GET", f"{CONFIG_MAPS}/a", impersonate_user="bob", impersonate_group="ops")
        refused = await world.raw("GET", f"{CONFIG_MAPS}/a", user=None, authorization="Bearer wrong")
        assert refused.status == 401

    run(work, config(tmp_path, *about("Metadata"), omitStages=["RequestReceived"]))
    acted, refused = events(tmp_path)
    assert acted["user"]["username"] == "admin"
    assert acted["impersonatedUser"] == {"username": "bob", "groups": ["ops", "system:authenticated"]}
    assert refused["stage"] == "ResponseStarted"
    assert refused["responseStatus"]["message"] == "Authentication failed, attempted: bearer"
    assert refused["responseStatus"]["code"] == 401


def test_a_watch_starts_and_completes(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        response = await world.raw("GET", f"{CONFIG_MAPS}?watch=1&timeoutSeconds=1")
        assert [event["stage"] for event in events(tmp_path)] == ["RequestReceived", "ResponseStarted"]
        assert callable(response.body)
        await response.body(_Sink())

    run(work, config(tmp_path, *about("Metadata")))
    assert [event["stage"] for event in events(tmp_path)] == ["RequestReceived", "ResponseStarted", "ResponseComplete"]


class _Sink:
    buffered = 0

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    async def wait_closed(self) -> None:
        await asyncio.Event().wait()


def test_pod_security_annotates(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        labels = {"pod-security.kubernetes.io/audit": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.30"}
        await world.json("POST", "/api/v1/namespaces", {"metadata": {"name": "n", "labels": labels}})
        await world.json("POST", "/api/v1/namespaces/n/serviceaccounts", {"metadata": {"name": "default"}})
        await world.settle()
        spec = {"hostNetwork": True, "containers": [{"name": "c", "image": "i"}]}
        await world.json("POST", "/api/v1/namespaces/n/pods", {"metadata": {"name": "p"}, "spec": spec})

    run(work, config(tmp_path, {"level": "Metadata", "resources": [{"resources": ["pods"]}]}))
    annotations = events(tmp_path)[-1]["annotations"]
    assert annotations["pod-security.kubernetes.io/enforce-policy"] == "privileged:v1.30"
    assert annotations["pod-security.kubernetes.io/audit-violations"].startswith(
        'would violate PodSecurity "baseline:latest": host namespaces (hostNetwork=true)'
    )


# -- backends


class Taken:
    """A backend that keeps what it is given."""

    name = "taken"

    def __init__(self) -> None:
        self.batches: list[list[Object]] = []

    async def process(self, given: Any) -> bool:
        self.batches.append(list(given))
        return True

    async def run(self) -> None: ...

    async def close(self) -> None: ...


def numbered(count: int) -> list[Object]:
    return [{"auditID": str(number), "level": "Metadata"} for number in range(count)]


def test_batches_are_sent_when_full_or_old_and_what_does_not_fit_is_counted() -> None:
    loop = VirtualTimeLoop()

    async def main() -> None:
        clock, taken, failures = VirtualClock(loop), Taken(), list[tuple[str, int]]()
        config = BatchConfig(buffer=5, size=3, wait=10.0, throttle=False)
        batching = Batching(taken, config, clock, lambda name, count: failures.append((name, count)))
        assert await batching.process(numbered(7))
        assert failures == [("taken", 2)]
        task = asyncio.ensure_future(batching.run())
        await clock.sleep(1)
        assert [len(batch) for batch in taken.batches] == [3]
        await clock.sleep(10)
        assert [len(batch) for batch in taken.batches] == [3, 2]
        task.cancel()
        await batching.process(numbered(4))
        await batching.close()
        assert [len(batch) for batch in taken.batches] == [3, 2, 3, 1]

    loop.run_until_complete(main())
    loop.close()


class Slow(Taken):
    """Takes ``seconds`` for each batch."""

    def __init__(self, clock: VirtualClock, seconds: float) -> None:
        super().__init__()
        self._clock, self._seconds = clock, seconds

    async def process(self, given: Any) -> bool:
        await self._clock.sleep(self._seconds)
        return await super().process(given)


def test_a_server_that_stops_hands_on_what_was_collected_and_what_is_under_way() -> None:
    loop = VirtualTimeLoop()

    async def main() -> None:
        clock, failures = VirtualClock(loop), list[tuple[str, int]]()
        slow = Slow(clock, 2.0)
        config = BatchConfig(size=3, wait=30.0, throttle=False)
        batching = Batching(slow, config, clock, lambda name, count: failures.append((name, count)))
        await batching.process(numbered(8))
        task = asyncio.ensure_future(batching.run())
        await clock.sleep(3)  # one is there, one is under way, and two events wait for a third
        task.cancel()
        await batching.process(numbered(1))
        await batching.close()
        assert ([len(batch) for batch in slow.batches], failures) == ([3, 3, 3], [])

    loop.run_until_complete(main())
    loop.close()


def test_a_receiver_that_hangs_holds_up_no_other_batch_and_no_server_that_stops() -> None:
    loop = VirtualTimeLoop()

    async def main() -> None:
        clock, failures = VirtualClock(loop), list[tuple[str, int]]()
        slow = Slow(clock, 5.0)
        config = BatchConfig(size=1, wait=0.0, throttle=False)
        batching = Batching(slow, config, clock, lambda name, count: failures.append((name, count)), at_once=4)
        await batching.process(numbered(8))
        task = asyncio.ensure_future(batching.run())
        await clock.sleep(5.5)
        assert len(slow.batches) == 4
        slow._seconds = 1e6
        await batching.process(numbered(9))
        await clock.sleep(5)
        assert len(slow.batches) == 8
        task.cancel()
        await asyncio.sleep(0)
        began = clock.monotonic()
        await batching.close()
        assert clock.monotonic() - began < 60
        assert sum(count for _, count in failures) == 9

    loop.run_until_complete(main())
    loop.close()


def test_batches_are_throttled() -> None:
    loop = VirtualTimeLoop()

    async def main() -> None:
        clock, taken = VirtualClock(loop), Taken()
        config = BatchConfig(size=1, wait=0.0, qps=2.0, burst=3)
        batching = Batching(taken, config, clock, lambda name, count: None)
        await batching.process(numbered(9))
        task = asyncio.ensure_future(batching.run())
        await clock.sleep(0.1)
        assert len(taken.batches) == 3
        await clock.sleep(2)
        assert len(taken.batches) == 7
        task.cancel()

    loop.run_until_complete(main())
    loop.close()


def test_large_events_lose_their_objects_or_are_dropped_and_batches_are_split() -> None:
    large = {"auditID": "1", "level": "Request", "requestObject": "x" * 500, "annotations": {"a": "b"}}
    small, _ = truncate(large, 200)
    assert small == {
        "auditID": "1",
        "level": "Request",
        "annotations": {"a": "b", "audit.k8s.io/truncated": "true"},
    }
    assert truncate({**large, "userAgent": "y" * 500}, 200)[0] is None

    async def main() -> None:
        taken, failures = Taken(), list[int]()
        truncating = Truncating(taken, TruncateConfig(200, 100), lambda name, count: failures.append(count))
        await truncating.process([*numbered(4), {"auditID": "z" * 300, "level": "Metadata"}])
        assert [len(batch) for batch in taken.batches] == [2, 2]
        assert failures == [1]

    asyncio.run(main())


def test_the_file_is_rotated_by_size_kept_by_number_and_compressed(tmp_path: Path) -> None:
    loop = VirtualTimeLoop()
    clock = VirtualClock(loop, 1_767_225_600.5)
    file = RotatingFile(LogConfig(str(tmp_path / "a.log"), max_size=10, max_backups=2, compress=True), clock)
    for number in range(5):
        file.write(f"line-{number}\n".encode())
        loop.run_until_complete(clock.sleep(1))
    file.close()
    backups = sorted(path.name for path in tmp_path.iterdir() if path.name != "a.log")
    assert backups == ["a-2026-01-01T00-00-03.500.log.gz", "a-2026-01-01T00-00-04.500.log.gz"]
    assert gzip.decompress((tmp_path / backups[1]).read_bytes()) == b"line-3\n"
    assert (tmp_path / "a.log").read_text() == "line-4\n"
    assert (tmp_path / "a.log").stat().st_mode & 0o777 == 0o600
    loop.close()


def test_a_strict_log_that_cannot_be_written_refuses_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    async def work(world: World) -> None:
        assert (await world.raw("GET", "/version")).status == 200
        monkeypatch.setattr(RotatingFile, "write", full)
        refused = await world.raw("GET", "/version")
        assert refused.status == 500
        assert b"failed to store audit event" in (refused.body if isinstance(refused.body, bytes) else b"")

    document = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
    log = LogConfig(str(tmp_path / "audit.log"))
    run(work, Config(seed=1, audit=AuditConfig(read_policy(document), log, Delivery("blocking-strict"))))


def test_a_backend_that_fails_in_a_way_of_its_own_fails_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, data: bytes) -> None:
        raise KeyError("nobody thought of it")

    async def work(world: World) -> None:
        monkeypatch.setattr(RotatingFile, "write", broken)
        assert (await world.raw("GET", "/version")).status == 200
        answer = await world.raw("GET", "/metrics")
        assert answer.status == 200
        metrics = answer.body if isinstance(answer.body, bytes) else b""
        assert b'apiserver_audit_error_total{plugin="log"}' in metrics

    document = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
    log = LogConfig(str(tmp_path / "audit.log"))
    run(work, Config(seed=1, audit=AuditConfig(read_policy(document), log, Delivery("blocking"))))


def test_a_line_of_text() -> None:
    event = {
        "requestReceivedTimestamp": "2026-01-01T00:00:00.000000Z",
        "auditID": "1",
        "stage": "ResponseComplete",
        "verb": "get",
        "user": {"username": "ann", "groups": ["a", "b"]},
        "requestURI": "/version",
        "responseStatus": {"code": 200},
    }
    assert legacy_line(event).decode() == (
        '2026-01-01T00:00:00.000000Z AUDIT: id="1" stage="ResponseComplete" ip="<unknown>" method="get" user="ann"'
        ' groups="\\"a\\",\\"b\\"" as="<self>" asgroups="<lookup>" user-agent="" namespace="<none>" uri="/version"'
        ' response="200"\n'
    )


def test_a_folder_is_made_for_the_log(tmp_path: Path) -> None:
    loop = VirtualTimeLoop()
    backend = LogBackend(LogConfig(str(tmp_path / "new/audit.log")), VirtualClock(loop), lambda name, count: None)
    loop.run_until_complete(backend.process([]))
    loop.run_until_complete(backend.close())
    assert (tmp_path / "new/audit.log").exists()
    loop.close()
