"""What is particular to kinds: services, pods and their admission, quota, health, start-up."""

from __future__ import annotations

import time

import pytest

from tests.apiserver.apiworld import World, config_map, pod, run
from tiphys.apiserver.config import Config
from tiphys.client import resources as R
from tiphys.client.errors import ApiError, Forbidden, Invalid

STAMP = "2026-01-01T00:00:00Z"


def service(name: str, **spec) -> dict:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def test_services_get_addresses_and_ports_and_give_them_back() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        client = world.admin
        made = await client.create(R.SERVICES, service("s", type="NodePort"), namespace="a")
        address, port = made["spec"]["clusterIP"], made["spec"]["ports"][0]["nodePort"]
        assert address.startswith("10.96.")
        assert 30000 <= port <= 32767
        assert (await client.get(R.IP_ADDRESSES, address))["spec"]["parentRef"]["name"] == "s"
        same_port = service("t", type="NodePort", ports=[{"port": 1, "nodePort": port}])
        for taken in (service("t", clusterIP=address), same_port):
            with pytest.raises(Invalid, match="already allocated"):
                await client.create(R.SERVICES, taken, namespace="a")
        plain = await client.patch(R.SERVICES, "s", {"spec": {"type": "ClusterIP"}}, "a")
        assert "nodePort" not in plain["spec"]["ports"][0]
        assert plain["spec"]["clusterIP"] == address
        await client.create(R.SERVICES, same_port, namespace="a")
        await client.delete(R.SERVICES, "s", "a")
        await client.create(R.SERVICES, service("u", clusterIP=address), namespace="a")

    run(work)


def test_more_ranges_of_service_addresses() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")

        async def make(name: str, **spec) -> str:
            made = await world.admin.create(R.SERVICES, service(name, **spec), namespace="a")
            return str(made["spec"]["clusterIP"])

        default = (await world.admin.get(R.SERVICE_CIDRS, "kubernetes"))["status"]["conditions"][0]
        assert (default["type"], default["status"]) == ("Ready", "True")
        assert {await make(f"s{i}") for i in range(5)} == {f"10.96.0.{i}" for i in range(2, 7)}  # .1 is kubernetes
        with pytest.raises(ApiError, match="range is full"):
            await make("more")
        cidr = await world.admin.create(
            R.SERVICE_CIDRS, {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/28"]}}
        )
        with pytest.raises(ApiError, match="range is full"):
            await make("more")  # it is not ready yet
        ready = {"type": "Ready", "status": "True", "reason": "r", "message": "", "lastTransitionTime": STAMP}
        await world.admin.update_status(R.SERVICE_CIDRS, cidr | {"status": {"conditions": [ready]}})
        await world.settle()
        assert (await make("more")).startswith("10.97.0.")
        assert await make("chosen", clusterIP="10.97.0.14") == "10.97.0.14"
        await world.admin.delete(R.SERVICES, "chosen", "a")
        await world.admin.delete(R.SERVICE_CIDRS, "more")
        await world.settle()
        with pytest.raises(Invalid, match="does not match the current range"):
            await make("chosen", clusterIP="10.97.0.14")

    run(work, Config(seed=1, service_cluster_ip_ranges=("10.96.0.0/29",)))


def test_a_failed_create_gives_back_what_it_took() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        wrong = service("s", clusterIP="10.96.5.5", sessionAffinity="nonsense")
        with pytest.raises(Invalid):
            await world.admin.create(R.SERVICES, wrong, namespace="a")
        await world.admin.create(R.SERVICES, service("s", clusterIP="10.96.5.5"), namespace="a")

    run(work)


def test_a_small_range_of_addresses_is_used_up_and_no_further() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        for i in range(5):
            await world.admin.create(R.SERVICES, service(f"s{i}"), namespace="a")
        with pytest.raises(ApiError, match=r"failed to allocate a serviceIP .* range is full"):
            await world.admin.create(R.SERVICES, service("more"), namespace="a")

    run(work, Config(seed=1, service_cluster_ip_ranges=("10.9.0.0/29",)))


def test_pods_get_what_admission_adds() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        made = await world.admin.create(R.PODS, pod("p", priorityClassName="system-node-critical"), namespace="a")
        spec = made["spec"]
        assert (spec["serviceAccountName"], spec["priority"]) == ("default", 2000001000)
        assert [t["tolerationSeconds"] for t in spec["tolerations"]] == [300, 300]
        mount = spec["containers"][0]["volumeMounts"][0]
        assert (mount["mountPath"], mount["name"]) == (
            "/var/run/secrets/kubernetes.io/serviceaccount",
            spec["volumes"][0]["name"],
        )
        assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
        with pytest.raises(Forbidden, match="no PriorityClass with name none was found"):
            await world.admin.create(R.PODS, pod("q", priorityClassName="none"), namespace="a")

    run(work)


def test_pod_security_by_the_namespaces_labels() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        labels = {"pod-security.kubernetes.io/enforce": "baseline"}
        await world.admin.patch(R.NAMESPACES, "a", {"metadata": {"labels": labels}})
        with pytest.raises(Forbidden, match='violates PodSecurity "baseline:latest": host namespaces'):
            await world.admin.create(R.PODS, pod("p", hostNetwork=True), namespace="a")
        await world.admin.create(R.PODS, pod("p"), namespace="a")

    run(work)


def test_quota_counts_and_refuses() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        quota = {"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "2"}}}
        made = await world.admin.create(R.RESOURCE_QUOTAS, quota, namespace="a")
        made["status"] = {"hard": {"configmaps": "2"}, "used": {"configmaps": "0"}}
        await world.admin.update_status(R.RESOURCE_QUOTAS, made)
        await world.settle()
        for name in ("x", "y"):
            await world.admin.create(R.CONFIG_MAPS, config_map(name), namespace="a")
        with pytest.raises(Forbidden, match="exceeded quota: q, requested: configmaps=1, used: configmaps=2"):
            await world.admin.create(R.CONFIG_MAPS, config_map("z"), namespace="a")

    run(work)


def test_eviction_respects_a_budget() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        made = await world.admin.create(R.PODS, pod("p", nodeName="n"), namespace="a")
        await world.admin.patch(R.PODS, "p", {"metadata": {"labels": {"app": "x"}}}, "a")
        conditions = [{"type": "Ready", "status": "True"}]
        status = {"status": {"phase": "Running", "conditions": conditions}}
        await world.admin.patch(R.PODS, "p", status, "a", subresource="status")
        budget = {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}}
        budget = await world.admin.create(R.POD_DISRUPTION_BUDGETS, budget, namespace="a")
        budget["status"].update(observedGeneration=1, desiredHealthy=1, currentHealthy=1, expectedPods=1)
        budget = await world.admin.update_status(R.POD_DISRUPTION_BUDGETS, budget)
        eviction = {"metadata": {"name": "p"}}
        with pytest.raises(ApiError, match="would violate the pod's disruption budget"):
            await world.admin.create(R.PODS, eviction, namespace="a", name="p", subresource="eviction")
        budget["status"]["disruptionsAllowed"] = 1
        await world.admin.update_status(R.POD_DISRUPTION_BUDGETS, budget)
        await world.admin.create(R.PODS, eviction, namespace="a", name="p", subresource="eviction")
        going = await world.admin.get(R.PODS, "p", "a")
        assert going["metadata"]["deletionTimestamp"]
        assert going["metadata"]["uid"] == made["metadata"]["uid"]
        after = await world.admin.get(R.POD_DISRUPTION_BUDGETS, "b", "a")
        assert (after["status"]["disruptionsAllowed"], list(after["status"]["disruptedPods"])) == (0, ["p"])

    run(work)


def test_events_expire_and_are_one_in_two_groups() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        reference = {"kind": "Pod", "namespace": "a", "name": "p"}
        event = {"metadata": {"name": "e"}, "involvedObject": reference, "reason": "R", "type": "Normal"}
        await world.admin.create(R.CORE_EVENTS, event, namespace="a")
        newer = await world.admin.get(R.EVENTS, "e", "a")
        assert (newer["apiVersion"], newer["regarding"]["name"]) == ("events.k8s.io/v1", "p")
        assert len((await world.admin.list(R.EVENTS, "a", field_selector="regarding.name=p"))["items"]) == 1
        await world.clock.sleep(600)
        assert (await world.admin.list(R.CORE_EVENTS, "a"))["items"] == []

    run(work, Config(seed=1, event_ttl=300))


def test_health_tells_which_check_failed() -> None:
    async def work(world: World) -> None:
        ready = await world.raw("GET", "/readyz?verbose", user=None)
        assert ready.status == 200
        assert b"[+]etcd ok" in ready.body
        await world.server.stop()
        stopping = await world.raw("GET", "/readyz", user=None)
        assert stopping.status == 500
        assert b"[-]shutdown failed: reason withheld" in stopping.body
        assert (await world.raw("GET", "/readyz?exclude=shutdown", user=None)).status == 200

    run(work)


def test_metrics_are_exposed_under_upstreams_names() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        response = await world.raw("GET", "/metrics")
        assert b'apiserver_request_total{code="201",component="apiserver"' in response.body
        assert b"apiserver_storage_objects" in response.body

    run(work)


def test_start_takes_milliseconds() -> None:
    async def work(world: World) -> None:
        return None

    def seconds() -> float:
        started = time.process_time()
        run(work)
        return time.process_time() - started

    assert min(seconds() for _ in range(5)) < 0.25  # the collector may have its turn in one of them
