"""The lease that tells that an API server lives."""

from __future__ import annotations

from tests.apiserver.apiworld import World, run
from tiphys.apiserver.bootstrap.identity import has_expired, lease_name
from tiphys.wire.http import Headers, Peer, Request

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"


def test_the_name_is_a_hash_of_the_machines() -> None:
    assert lease_name("vm") == "apiserver-wlv32tlttr4jl3gtroqexyxapa"


def test_a_lease_without_its_times_has_expired() -> None:
    assert has_expired({}, 0)
    spec = {"renewTime": "1970-01-01T00:00:10.000000Z", "leaseDurationSeconds": 5}
    assert not has_expired({"spec": spec}, 15)
    assert has_expired({"spec": spec}, 15.1)


def test_a_server_renews_its_lease_and_takes_it_along() -> None:
    async def work(world: World) -> None:
        path = f"{LEASES}/{lease_name('localhost')}"
        first = await world.json("GET", path)
        meta = first["metadata"]
        assert meta["labels"] == {
            "apiserver.kubernetes.io/identity": "kube-apiserver",
            "kubernetes.io/hostname": "localhost",
        }
        assert [entry["manager"] for entry in meta["managedFields"]] == ["kube-apiserver"]
        assert first["spec"]["holderIdentity"].startswith(f"{meta['name']}_")
        assert first["spec"]["leaseDurationSeconds"] == 3600
        await world.clock.sleep(10.5)
        second = await world.json("GET", path)
        assert second["metadata"]["uid"] == meta["uid"]
        assert second["spec"]["renewTime"] > first["spec"]["renewTime"]
        await world.server.stop()
        assert not [kv for kv in await _keys(world) if b"/leases/kube-system/" in kv]

    run(work)


async def _keys(world: World) -> list[bytes]:
    from tiphys.store.backend import Range, prefix_end

    found = await world.backend.range(Range(b"/registry/", prefix_end(b"/registry/"), keys_only=True))
    return [kv.key for kv in found.kvs]


def test_leases_of_servers_that_are_gone_are_removed() -> None:
    async def work(world: World) -> None:
        labels = {"apiserver.kubernetes.io/identity": "kube-apiserver"}
        spec = {"holderIdentity": "h", "leaseDurationSeconds": 60, "renewTime": "2000-01-01T00:00:00.000000Z"}
        for name, has in (("dead", labels), ("other", {})):
            await world.json("POST", LEASES, {"metadata": {"name": name, "labels": has}, "spec": spec})
        await world.clock.sleep(3601)
        names = [lease["metadata"]["name"] for lease in (await world.json("GET", LEASES))["items"]]
        assert names == [lease_name("localhost"), "other"]

    run(work)


def test_a_certificate_that_cannot_be_verified_is_refused_unless_a_token_counts() -> None:
    """As with Go's RequestClientCert: 401, though anonymous callers may see this path; the token alone is enough."""
    problem = "x509: certificate has expired or is not yet valid"

    async def work(world: World) -> None:
        async def status(peer: Peer, **headers: str) -> int:
            return (await world.server.handler(Request("GET", "/version", "", Headers(headers), b"", peer))).status

        await world.namespace("n")
        asked = {"spec": {"expirationSeconds": 3600}}
        made = await world.json("POST", "/api/v1/namespaces/n/serviceaccounts/default/token", asked)
        token = f"Bearer {made['status']['token']}"
        refused = Peer("10.0.0.1", refused_certificate=problem, secure=True)
        assert await status(Peer("10.0.0.1", secure=True)) == 200
        assert await status(refused) == 401
        assert await status(refused, authorization=token) == 200
        assert await status(refused, authorization="Bearer wrong") == 401

    run(work)
