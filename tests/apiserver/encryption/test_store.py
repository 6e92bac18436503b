"""What is in the store: bytes that show nothing, on every backend; rotation, reload, and keys that are gone."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from tests.apiserver.apiworld import World, run
from tiphys.api.resources import builtin_scheme
from tiphys.apiserver.config import Config
from tiphys.apiserver.encryption.kms import schema
from tiphys.store.backend import Put, Range, prefix_end

SECRETS = "/api/v1/namespaces/default/secrets"
PREFIX = "/registry/secrets/default/"
PASSWORD = base64.b64encode(b"hunter2hunter2").decode()
A, B = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


def write(path: Path, *rows: Any) -> None:
    path.write_text(
        yaml.safe_dump(
            {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": list(rows)}
        )
    )


def rule(*providers: Any, resources: tuple[str, ...] = ("secrets",)) -> dict[str, Any]:
    return {"resources": list(resources), "providers": list(providers)}


def gcm(*keys: tuple[str, str]) -> dict[str, Any]:
    return {"aesgcm": {"keys": [{"name": name, "secret": secret} for name, secret in keys]}}


IDENTITY: dict[str, Any] = {"identity": {}}


def secret(name: str, password: str = PASSWORD) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"password": password}}


async def stored(world: World, prefix: str) -> dict[str, bytes]:
    """The values as they are in the store itself."""
    raw = prefix.encode()
    answer = await world.backend.range(Range(raw, prefix_end(raw)))
    return {kv.key.decode().rpartition("/")[2]: kv.value for kv in answer.kvs}


def test_the_store_shows_nothing_and_the_server_everything(tmp_path: Path) -> None:
    write(tmp_path / "c", rule(gcm(("a", A)), IDENTITY))

    async def work(world: World) -> None:
        await world.json("POST", SECRETS, secret("s"))
        await world.json(
            "POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "c"}, "data": {"k": "v"}}
        )
        value = (await stored(world, "/registry/secrets/default/"))["s"]
        assert value.startswith(b"k8s:enc:aesgcm:v1:a:")
        assert PASSWORD.encode() not in value
        assert b'"k":"v"' in (await stored(world, "/registry/configmaps/default/"))["c"]
        assert (await world.json("GET", f"{SECRETS}/s"))["data"]["password"] == PASSWORD
        changed = await world.json("PATCH", f"{SECRETS}/s", {"data": {"more": "eA=="}},
                                   content_type="application/merge-patch+json")  # fmt: skip
        assert changed["data"] == {"password": PASSWORD, "more": "eA=="}
        events = [event async for event in _watched(world, changed["metadata"]["resourceVersion"])]
        assert events == [("DELETED", {"password": PASSWORD, "more": "eA=="})]

    run(work, Config(seed=1, encryption_config=tmp_path / "c"))


async def _watched(world: World, revision: str) -> Any:
    from tiphys.client.resources import SECRETS as RESOURCE

    await world.json("DELETE", f"{SECRETS}/s")
    async for event in world.admin.watch(RESOURCE, "default", resource_version=revision):
        yield event.type, event.object.get("data")
        return


CRONTABS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "crontabs.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "crontabs", "kind": "CronTab"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def test_custom_resources_and_wildcards(tmp_path: Path) -> None:
    write(tmp_path / "c", rule(IDENTITY, resources=("secrets",)), rule(gcm(("a", A)), IDENTITY, resources=("*.*",)))

    async def work(world: World) -> None:
        await world.json("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRONTABS)
        await world.clock.sleep(2)
        path = "/apis/example.com/v1/namespaces/default/crontabs"
        body = {"apiVersion": "example.com/v1", "kind": "CronTab", "metadata": {"name": "t"}, "spec": {"k": "v"}}
        assert (await world.raw("POST", path, body)).status == 201
        await world.json("POST", SECRETS, secret("s"))
        assert (await stored(world, "/registry/example.com/crontabs/"))["t"].startswith(b"k8s:enc:aesgcm:v1:a:")
        assert (await stored(world, "/registry/secrets/default/"))["s"].startswith(b"{")
        assert (await world.json("GET", f"{path}/t"))["spec"] == {"k": "v"}

    run(work, Config(seed=1, encryption_config=tmp_path / "c"))


def test_each_custom_resource_of_a_group_is_sealed_by_its_own_rule(tmp_path: Path) -> None:
    write(tmp_path / "c", rule(gcm(("a", A)), IDENTITY, resources=("gadgets.example.com",)))

    async def work(world: World) -> None:
        for kind, plural in (("CronTab", "crontabs"), ("Gadget", "gadgets"), ("Widget", "widgets")):
            spec = {**CRONTABS["spec"], "names": {"plural": plural, "kind": kind}}
            made = {**CRONTABS, "metadata": {"name": f"{plural}.example.com"}, "spec": spec}
            await world.json("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", made)
            await world.clock.sleep(2)
            path = f"/apis/example.com/v1/namespaces/default/{plural}"
            body = {"apiVersion": "example.com/v1", "kind": kind, "metadata": {"name": "t"}, "spec": {"k": "v"}}
            assert (await world.raw("POST", path, body)).status == 201
            value = (await stored(world, f"/registry/example.com/{plural}/"))["t"]
            assert value.startswith(b"k8s:enc:aesgcm:v1:a:") == (plural == "gadgets"), plural
            assert (await world.json("GET", f"{path}/t"))["spec"] == {"k": "v"}

    run(work, Config(seed=1, encryption_config=tmp_path / "c"))


def test_a_new_key_seals_after_a_reload_and_a_rewrite_rotates(tmp_path: Path) -> None:
    path = tmp_path / "c"
    write(path, rule(gcm(("a", A)), IDENTITY))

    async def work(world: World) -> None:
        made = await world.json("POST", SECRETS, secret("s"))
        write(path, rule(gcm(("b", B), ("a", A)), IDENTITY))
        await world.clock.sleep(20)
        same = await world.json("PUT", f"{SECRETS}/s", made)
        assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"], "read with the key of before"
        path.write_text("nonsense: [")
        await world.clock.sleep(20)
        await world.json("POST", SECRETS, secret("t"))
        assert (await stored(world, "/registry/secrets/default/"))["t"].startswith(b"k8s:enc:aesgcm:v1:b:")

    run(work, Config(seed=1, encryption_config=path, encryption_reload=True))


def test_a_restart_with_a_new_key_rewrites_what_did_not_change(tmp_path: Path) -> None:
    path = tmp_path / "c"
    write(path, rule(gcm(("a", A)), IDENTITY))

    async def first(world: World) -> None:
        await world.json("POST", SECRETS, secret("s"))
        await world.json("POST", SECRETS, secret("lost"))
        kept.update(await stored(world, "/registry/secrets/default/"))

    async def second(world: World) -> None:
        from tiphys.store.backend import Put

        for name, value in kept.items():
            await world.backend.put(Put(f"/registry/secrets/default/{name}".encode(), value))
        await world.backend.put(Put(b"/registry/secrets/default/lost", b"k8s:enc:aesgcm:v1:gone:" + b"x" * 40))
        await world.settle()
        shown = await world.json("GET", f"{SECRETS}/s")
        assert shown["data"]["password"] == PASSWORD
        replaced = await world.json("PUT", f"{SECRETS}/s", shown)
        assert replaced["metadata"]["resourceVersion"] != shown["metadata"]["resourceVersion"]
        assert (await stored(world, "/registry/secrets/default/"))["s"].startswith(b"k8s:enc:aesgcm:v1:b:")
        again = await world.json("PUT", f"{SECRETS}/s", replaced)
        assert again["metadata"]["resourceVersion"] == replaced["metadata"]["resourceVersion"]
        lost = await world.raw("GET", f"{SECRETS}/lost")
        assert lost.status == 500
        assert b"/registry/secrets/default/lost" in (lost.body if isinstance(lost.body, bytes) else b"")
        assert (await world.raw("GET", "/readyz")).status == 200

    kept: dict[str, bytes] = {}
    run(first, Config(seed=1, encryption_config=path))
    write(path, rule(gcm(("b", B), ("a", A)), IDENTITY))
    run(second, Config(seed=1, encryption_config=path))


# -- KMS v2


class Plugin:
    """A key management service on a socket. It "encrypts" by turning bytes around, under the key of today."""

    def __init__(self, socket: Path) -> None:
        self.key = "key-1"
        self.healthz = "ok"
        self.calls: list[str] = []
        self.let, self.plaintext = threading.Event(), b""
        self.let.set()
        methods = schema().methods("KeyManagementService")

        def handler(name: str, act: Any) -> Any:
            def behave(request: Any, context: Any) -> Any:
                self.calls.append(name)
                return act(request, methods[name].response)

            return grpc.unary_unary_rpc_method_handler(
                behave,
                request_deserializer=methods[name].request.FromString,
                response_serializer=methods[name].response.SerializeToString,
            )

        handlers = {
            "Status": handler("Status", lambda _, R: R(version="v2", healthz=self.healthz, key_id=self.key)),
            "Encrypt": handler(
                "Encrypt",
                lambda request, R: R(ciphertext=request.plaintext[::-1], key_id=self.key, annotations={"a.b": b"1"}),
            ),
            "Decrypt": handler("Decrypt", self._decrypt),
        }
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v2.KeyManagementService", handlers),)
        )
        self._server.add_insecure_port(f"unix://{socket}")
        self._server.start()

    def _decrypt(self, request: Any, response: Any) -> Any:
        assert self.let.wait(20)
        return response(plaintext=self.plaintext or request.ciphertext[::-1])

    def stop(self) -> threading.Event:
        return self._server.stop(0)  # type: ignore[no-any-return]


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Plugin]:
    made = Plugin(tmp_path / "kms.sock")
    yield made
    made.stop().wait()


def service_at(socket: Path, timeout: str = "1s") -> dict[str, Any]:
    return {"kms": {"apiVersion": "v2", "name": "vault", "endpoint": f"unix://{socket}", "timeout": timeout}}


def real(work: Any, config: Config) -> None:
    """Run on real time: the plugin is a real server."""
    from tiphys.apiserver.server import APIServer
    from tiphys.runtime.clock import SystemClock
    from tiphys.store.memory import MemoryBackend

    async def main() -> None:
        clock = SystemClock()
        world = World.__new__(World)
        world.clock = clock  # type: ignore[assignment]
        world.backend = MemoryBackend(clock)
        world.server = APIServer(config, world.backend, clock)
        world.admin = world.client_of("admin", ("system:masters",))
        async with world.running():
            await work(world)

    asyncio.run(main())


def test_a_key_management_service_is_asked_once_for_a_seed(tmp_path: Path, plugin: Plugin) -> None:
    write(tmp_path / "c", rule(service_at(tmp_path / "kms.sock"), IDENTITY))

    async def work(world: World) -> None:
        for number in range(5):
            await world.json("POST", SECRETS, secret(f"s{number}"))
        values = await stored(world, "/registry/secrets/default/")
        assert all(value.startswith(b"k8s:enc:kms:v2:vault:") for value in values.values())
        assert len(set(values.values())) == 5
        assert plugin.calls.count("Encrypt") == 1
        assert "Decrypt" not in plugin.calls
        assert (await world.json("GET", f"{SECRETS}/s3"))["data"]["password"] == PASSWORD
        assert (await world.raw("GET", "/healthz/kms-providers")).status == 200

    real(work, Config(seed=1, encryption_config=tmp_path / "c"))


def test_a_service_that_is_not_there_fails_writes_and_health_by_name(tmp_path: Path) -> None:
    service = {
        "kms": {"apiVersion": "v2", "name": "vault", "endpoint": f"unix://{tmp_path}/none.sock", "timeout": "1s"}
    }
    write(tmp_path / "c", rule(service, IDENTITY))

    async def work(world: World) -> None:
        refused = await world.raw("POST", SECRETS, secret("s"))
        assert refused.status == 500
        assert await stored(world, "/registry/secrets/default/") == {}
        assert (await world.raw("GET", "/api/v1/namespaces/default/configmaps")).status == 200
        health = await world.raw("GET", "/readyz?verbose")
        assert b"[-]kms-providers failed" in (health.body if isinstance(health.body, bytes) else b"")

    real(work, Config(seed=1, encryption_config=tmp_path / "c"))


def test_a_slow_service_holds_up_no_other_kind(tmp_path: Path, plugin: Plugin) -> None:
    """Another server writes secrets by a seed of its own, which this one has to have decrypted; the service hangs."""
    from tiphys.apiserver.server import APIServer

    write(tmp_path / "c", rule(service_at(tmp_path / "kms.sock", "15s"), IDENTITY))
    config = Config(seed=1, encryption_config=tmp_path / "c")
    maps = "/api/v1/namespaces/default/configmaps"

    async def work(world: World) -> None:
        other = World.__new__(World)
        other.server = APIServer(config, world.backend, world.clock)
        await other.server.start()
        try:
            assert (await world.raw("GET", SECRETS)).status == 200
            assert (await world.raw("GET", maps)).status == 200
            plugin.let.clear()
            for name in "abc":
                assert (await other.raw("POST", SECRETS, secret(name))).status == 201
                assert (await other.raw("POST", maps, {"metadata": {"name": name}})).status == 201
            async with asyncio.timeout(60):
                listed = await world.json("GET", maps)
            assert {"a", "b", "c"} <= {item["metadata"]["name"] for item in listed["items"]}
            plugin.let.set()
            async with asyncio.timeout(60):
                while (found := await world.raw("GET", f"{SECRETS}/c")).status != 200:
                    await asyncio.sleep(0.02)
            assert PASSWORD.encode() in (found.body if isinstance(found.body, bytes) else b"")
            assert plugin.calls.count("Decrypt") == 1
        finally:
            await other.server.stop()

    real(work, config)


def test_what_a_service_makes_of_a_key_is_an_error_of_its_objects(tmp_path: Path, plugin: Plugin) -> None:
    """The service decrypts to something else, and then it fails: every value by that key is asked about once."""
    path = tmp_path / "c"
    write(path, rule(service_at(tmp_path / "kms.sock"), IDENTITY))

    async def first(world: World) -> None:
        for name in "ab":
            assert (await world.raw("POST", SECRETS, secret(name))).status == 201
        kept.update((f"/registry/secrets/default/{name}", v) for name, v in (await stored(world, PREFIX)).items())

    async def second(world: World) -> None:
        plugin.plaintext, plugin.key = b"short", "key-2"
        for key, value in kept.items():
            await world.backend.put(Put(key.encode(), value))
        assert (await world.raw("GET", f"{SECRETS}/a")).status == 500
        assert (await world.raw("GET", f"{SECRETS}/b")).status == 500
        assert (await world.raw("POST", SECRETS, secret("new"))).status == 201
        assert (await world.raw("GET", f"{SECRETS}/new")).status == 200
        assert (await world.raw("GET", "/readyz")).status == 200

    kept: dict[str, bytes] = {}
    real(first, Config(seed=1, encryption_config=path))
    real(second, Config(seed=1, encryption_config=path))


def test_rules_count_when_the_services_that_they_name_are_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as they are not, what was in force is; and services that have left the file may be asked for a while."""
    from tiphys.apiserver.encryption import source
    from tiphys.apiserver.encryption.source import Sealing
    from tiphys.runtime.clock import SystemClock
    from tiphys.store.memory import MemoryBackend

    monkeypatch.setattr(source, "_LEAST_GRACE_SECONDS", 0.2)
    path, key = tmp_path / "c", b"/registry/secrets/default/s"
    write(path, rule(gcm(("a", A)), IDENTITY))

    async def main() -> None:
        clock = SystemClock()
        backend = MemoryBackend(clock)
        sealing = Sealing(Config(encryption_config=path, encryption_reload=True), backend, clock)
        sealing.backend.serve(builtin_scheme())

        async def form() -> bytes:
            await sealing.backend.put(Put(key, b"{}"))
            return (await backend.range(Range(key))).kvs[0].value[:16]

        async def look() -> None:
            for _ in range(2):
                await sealing._look()

        assert await form() == b"k8s:enc:aesgcm:v"
        write(path, rule(service_at(tmp_path / "kms.sock", "100ms"), gcm(("a", A)), IDENTITY))
        await look()
        assert await form() == b"k8s:enc:aesgcm:v"
        plugin = Plugin(tmp_path / "kms.sock")
        try:
            async with asyncio.timeout(60):
                while await form() != b"k8s:enc:kms:v2:v":
                    await look()
            before = sealing._file.value.services[0]
            write(path, rule(gcm(("a", A)), service_at(tmp_path / "kms.sock"), IDENTITY))
            await look()
            assert await form() == b"k8s:enc:aesgcm:v"
            await sealing._retired.sweep()
            await before.check()
        finally:
            await sealing.close()
            plugin.stop().wait()
            await backend.close()

    asyncio.run(main())
