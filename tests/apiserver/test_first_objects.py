"""What every cluster has from the start, beside namespaces and policy: flow control and APIServices."""

from __future__ import annotations

from tests.apiserver.apiworld import World, run
from tiphys.api.object import Object
from tiphys.apiserver.aggregator.availability import missing
from tiphys.controlkit.discovery import discover

FLOW = "/apis/flowcontrol.apiserver.k8s.io/v1"
SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"


def dangling(schema: Object) -> str:
    return str(schema["status"]["conditions"][0]["reason"])


def test_the_default_levels_and_schemas_are_there() -> None:
    async def work(world: World) -> None:
        levels = await world.json("GET", f"{FLOW}/prioritylevelconfigurations")
        schemas = await world.json("GET", f"{FLOW}/flowschemas")
        assert {"exempt", "system", "catch-all"} < {level["metadata"]["name"] for level in levels["items"]}
        assert all(dangling(schema) == "Found" for schema in schemas["items"])

    run(work)


def test_a_schema_tells_whether_its_level_is_there() -> None:
    async def work(world: World) -> None:
        level = {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration"}
        level |= {
            "metadata": {"name": "own"},
            "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}},
        }
        schema = {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "own"}}
        schema["spec"] = {"priorityLevelConfiguration": {"name": "own"}}
        await world.json("POST", f"{FLOW}/flowschemas", schema)
        await world.settle()
        assert dangling(await world.json("GET", f"{FLOW}/flowschemas/own")) == "NotFound"
        await world.json("POST", f"{FLOW}/prioritylevelconfigurations", level)
        await world.settle()
        assert dangling(await world.json("GET", f"{FLOW}/flowschemas/own")) == "Found"

    run(work)


def test_api_services_follow_what_is_served() -> None:
    async def work(world: World) -> None:
        apps = await world.json("GET", f"{SERVICES}/v1.apps")
        assert apps["spec"] == {"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15}
        assert apps["status"]["conditions"][0]["reason"] == "Local"
        names = {"plural": "toys", "kind": "Toy"}
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        spec = {"group": "example.com", "scope": "Cluster", "names": names, "versions": [version]}
        definition = {"metadata": {"name": "toys.example.com"}, "spec": spec}
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        await world.json("POST", path, definition)
        await world.settle()
        found = await world.json("GET", f"{SERVICES}/v1.example.com")
        assert found["metadata"]["labels"] == {"kube-aggregator.kubernetes.io/automanaged": "true"}
        await world.json("DELETE", f"{path}/toys.example.com")
        await world.settle()
        assert (await world.raw("GET", f"{SERVICES}/v1.example.com")).status == 404

    run(work)


def test_devices_as_an_administrator_are_for_namespaces_with_the_label() -> None:
    async def work(world: World) -> None:
        request = {"name": "a", "exactly": {"deviceClassName": "c", "adminAccess": True}}
        claim = {"metadata": {"name": "a"}, "spec": {"devices": {"requests": [request]}}}
        refused = await world.json("POST", CLAIMS, claim)
        assert "spec.devices.requests[0].adminAccess: Forbidden" in refused["message"]
        label = {"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}}
        await world.json("PATCH", "/api/v1/namespaces/default", label, content_type="application/merge-patch+json")
        assert (await world.raw("POST", CLAIMS, claim)).status == 201

    run(work)


def test_an_api_in_a_service_tells_why_it_cannot_be_had() -> None:
    async def work(world: World) -> None:
        async def told() -> tuple[str, str]:
            condition = (await world.json("GET", f"{SERVICES}/v1.example.com"))["status"]["conditions"][0]
            return condition["reason"], condition["message"]

        spec = {"group": "example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10}
        reference = {"namespace": "default", "name": "api"}
        await world.json(
            "POST", SERVICES, {"metadata": {"name": "v1.example.com"}, "spec": {**spec, "service": reference}}
        )
        await world.settle()
        await world.clock.sleep(1)
        assert await told() == ("ServiceNotFound", 'service/api in "default" is not present')
        service = {"metadata": {"name": "api"}, "spec": {"ports": [{"port": 443, "name": "https"}]}}
        await world.json("POST", "/api/v1/namespaces/default/services", service)
        await world.settle()
        await world.clock.sleep(1)
        assert await told() == ("EndpointsNotFound", 'cannot find endpointslices for service/api in "default"')

    run(work)


def test_an_api_whose_service_is_missing_is_known_and_answers_503() -> None:
    async def work(world: World) -> None:
        group, version = "metrics.k8s.io", "v1beta1"
        spec = {"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100}
        reference = {"namespace": "default", "name": "ms"}
        body = {"metadata": {"name": f"{version}.{group}"}, "spec": {**spec, "insecureSkipTLSVerify": True}}
        body["spec"]["service"] = reference
        await world.json("POST", SERVICES, body)
        await world.clock.sleep(1)
        refused = await world.raw("GET", f"/apis/{group}/{version}/nodes")
        assert (refused.status, refused.body) == (503, b"service unavailable\n")
        assert group in [found["name"] for found in (await world.json("GET", "/apis"))["groups"]]
        served = await discover(world.admin)
        assert served.failures == {f"{group}/{version}": "stale GroupVersion discovery"}
        await world.json("DELETE", f"{SERVICES}/{version}.{group}")
        await world.clock.sleep(1)
        assert (await discover(world.admin)).failures == {}
        assert (await world.raw("GET", f"/apis/{group}/{version}/nodes")).status == 404

    run(work)


def test_what_stands_behind_an_api() -> None:
    reference = {"namespace": "default", "name": "api", "port": 443}
    service: Object = {"spec": {"type": "ClusterIP", "ports": [{"port": 443, "name": "https"}]}}
    ready: Object = {"endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "https", "port": 8443}]}
    waiting: Object = {**ready, "endpoints": [{"conditions": {"ready": False}}]}
    assert (missing({**reference, "port": 80}, service, [ready]) or {})["reason"] == "ServicePortError"
    assert (missing(reference, service, [waiting]) or {})["reason"] == "MissingEndpoints"
    assert missing(reference, service, [waiting, ready]) is None
