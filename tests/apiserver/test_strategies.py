"""What the kinds of the core group set, keep and drop of what they are sent."""

from __future__ import annotations

from tests.apiserver.apiworld import World, run

NS = "/api/v1/namespaces/a"


def test_empty_lists_that_are_always_shown_are_null_once_stored() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/roles"
        made = await world.json("POST", roles, {"metadata": {"name": "r"}, "rules": []})
        assert made["rules"] is None

    run(work)


def test_each_warning_is_a_header_field_of_its_own() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        body = {"metadata": {"name": "e", "more": 1}, "subsets": []}
        answer = await world.raw("POST", f"{NS}/endpoints", body)
        assert answer.headers["Warning"].split("\n") == [
            '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"',
            '299 - "unknown field \\"metadata.more\\""',
        ]

    run(work)


def test_an_update_of_a_version_that_is_no_number_fails() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await world.json("POST", f"{NS}/configmaps", {"metadata": {"name": "c"}})
        body = {"metadata": {"name": "c", "resourceVersion": "x"}}
        status = await world.json("PUT", f"{NS}/configmaps/c", body)
        assert (status["code"], status["message"]) == (500, 'strconv.ParseUint: parsing "x": invalid syntax')

    run(work)


def test_service_accounts_keep_names_of_secrets_only() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        secrets = [{"name": "s", "namespace": "n", "kind": "Secret"}]
        body = {"metadata": {"name": "x"}, "secrets": secrets}
        assert (await world.json("POST", f"{NS}/serviceaccounts", body))["secrets"] == [{"name": "s"}]
        assert (await world.json("PUT", f"{NS}/serviceaccounts/x", body))["secrets"] == [{"name": "s"}]

    run(work)


def test_a_limit_range_without_a_name_gets_its_uid() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        meta = (await world.json("POST", f"{NS}/limitranges", {"spec": {"limits": []}}))["metadata"]
        assert len(meta["name"]) == 36

    run(work)


def test_nodes_are_not_configured_through_the_api_any_more() -> None:
    async def work(world: World) -> None:
        source = {"configMap": {"namespace": "n", "name": "x", "kubeletConfigKey": "k"}}
        node = {"metadata": {"name": "n"}, "spec": {"configSource": source}, "status": {"config": {"error": "e"}}}
        made = await world.json("POST", "/api/v1/nodes", node)
        assert "configSource" not in made["spec"]
        assert "config" not in made["status"]
        status = await world.json("PUT", "/api/v1/nodes/n/status", {**node, "status": {"config": {"assigned": {}}}})
        assert "config" not in status["status"]

    run(work)


def test_topology_in_slices_becomes_the_name_of_the_node() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        slices = "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices"
        endpoint = {"addresses": ["1.2.3.4"], "deprecatedTopology": {"x": "y"}}
        body = {"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [endpoint]}
        made = await world.json("POST", slices, body)
        assert made["endpoints"] == [{"addresses": ["1.2.3.4"], "conditions": {}}]
        same = await world.json("PUT", f"{slices}/s", {**made, "ports": []})
        assert same["metadata"]["generation"] == 1

    run(work)


def test_a_status_that_leaves_metadata_alone() -> None:
    async def work(world: World) -> None:
        path = "/apis/networking.k8s.io/v1/servicecidrs"
        body = {"metadata": {"name": "c", "labels": {"a": "b"}}, "spec": {"cidrs": ["10.7.0.0/24"]}}
        conditions = [{"type": "Ready", "status": "True", "reason": "R", "message": "", "lastTransitionTime": None}]
        made = await world.json("POST", path, {**body, "status": {"conditions": conditions}})
        assert "conditions" not in made["status"]
        made["metadata"]["labels"] = {"x": "y"}
        told = await world.json("PUT", f"{path}/c/status", made)
        assert told["metadata"]["labels"] == {"a": "b"}

    run(work)


def test_events_are_judged_by_the_group_that_they_are_sent_to() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        new = "/apis/events.k8s.io/v1/namespaces/a/events"
        body = {"metadata": {"name": "e"}, "regarding": {"namespace": "a"}, "deprecatedCount": 2}
        refused = await world.json("POST", new, body)
        assert refused["message"].startswith('Event "e" is invalid: [eventTime: Required value, type: Invalid value')
        old = {"metadata": {"name": "e"}, "involvedObject": {"namespace": "a"}, "count": 2}
        assert (await world.json("POST", f"{NS}/events", old))["count"] == 2
        shown = await world.json("GET", f"{new}/e")
        assert shown["deprecatedCount"] == 2
        missing = await world.json("GET", f"{new}/none")
        assert missing["message"] == 'events.events.k8s.io "none" not found'

    run(work)


def test_a_volume_tells_since_when_it_is_in_its_phase() -> None:
    async def work(world: World) -> None:
        path = "/api/v1/persistentvolumes"
        spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "nfs": {"server": "s", "path": "/"}}
        made = await world.json("POST", path, {"metadata": {"name": "v"}, "spec": spec})
        since = made["status"]["lastPhaseTransitionTime"]
        await world.clock.sleep(5)
        made["status"] = {"phase": "Pending"}
        same = await world.json("PUT", f"{path}/v/status", made)
        assert same["status"]["lastPhaseTransitionTime"] == since
        moved = await world.json("PUT", f"{path}/v/status", {**same, "status": {"phase": "Available"}})
        assert moved["status"]["lastPhaseTransitionTime"] > since

    run(work)


def test_a_claim_tells_its_data_source_twice() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        path = f"{NS}/persistentvolumeclaims"
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}

        async def sources(name: str, **given: object) -> tuple[object, object]:
            made = (await world.json("POST", path, {"metadata": {"name": name}, "spec": {**spec, **given}}))["spec"]
            return made.get("dataSource"), made.get("dataSourceRef")

        claim = {"apiGroup": None, "kind": "PersistentVolumeClaim", "name": "c"}
        other = {"apiGroup": "x.io", "kind": "Other", "name": "o"}
        assert await sources("a", dataSource=claim) == (claim, claim)
        assert await sources("b", dataSourceRef=other) == (other, other)
        assert await sources("c", dataSource=other) == (None, None)

    run(work)


def service(name: str, **spec: object) -> dict:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def test_what_a_service_drops_when_its_type_changes() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        path = f"{NS}/services"
        made = await world.json("POST", path, service("s", type="LoadBalancer", externalTrafficPolicy="Local"))
        health = made["spec"]["healthCheckNodePort"]
        assert health >= 30000
        plain = await world.json("PUT", f"{path}/s", {**made, "spec": {**made["spec"], "type": "ClusterIP"}})
        assert plain["spec"]["clusterIP"] == made["spec"]["clusterIP"]
        assert not plain["spec"].keys() & {
            "healthCheckNodePort",
            "externalTrafficPolicy",
            "allocateLoadBalancerNodePorts",
        }
        spec = service("t", type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=health)
        assert (await world.json("POST", path, spec))["spec"]["healthCheckNodePort"] == health
        named = await world.json("PUT", f"{path}/s", service("s", type="ExternalName", externalName="a.b"))
        assert not named["spec"].keys() & {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"}

    run(work)


def test_node_ports_that_cannot_be_had() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        path = f"{NS}/services"

        async def refused(*ports: dict, health: int = 0) -> str:
            more = {"externalTrafficPolicy": "Local", "healthCheckNodePort": health} if health else {}
            body = service("s", type="LoadBalancer", ports=list(ports), **more)
            message: str = (await world.json("POST", path, body))["message"]
            return message

        wrong = await refused({"port": 80, "nodePort": 80})
        assert wrong.endswith("provided port is not in the valid range. The range of valid ports is 30000-32767")
        two = ({"name": "a", "port": 1, "nodePort": 30001}, {"name": "b", "port": 2, "nodePort": 30001})
        assert "spec.ports[1].nodePort: Invalid value: 30001: provided port is already allocated" in await refused(*two)
        assert "failed to allocate requested HealthCheck NodePort 80" in await refused({"port": 80}, health=80)

    run(work)


def test_a_service_takes_its_endpoints_along() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await world.json("POST", f"{NS}/services", service("s"))
        await world.json("POST", f"{NS}/endpoints", {"metadata": {"name": "s"}})
        await world.json("DELETE", f"{NS}/services/s")
        assert (await world.json("GET", f"{NS}/endpoints/s"))["code"] == 404

    run(work)


def test_addresses_at_the_edges_of_the_range_belong_to_nobody() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        for address in ("10.96.0.0", "10.96.255.255", "10.97.0.1"):
            told = await world.json("POST", f"{NS}/services", service("s", clusterIP=address))
            assert told["message"].endswith("the provided network does not match the current range")

    run(work)


def test_a_dry_run_does_not_mind_a_resource_version() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        body = {"metadata": {"name": "c", "resourceVersion": "5"}}
        shown = await world.json("POST", f"{NS}/configmaps?dryRun=All", body)
        assert shown["metadata"]["resourceVersion"] == "5"
        assert (await world.json("POST", f"{NS}/configmaps", body))["code"] == 500

    run(work)


def test_collections_are_not_updated() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        for method in ("PUT", "PATCH"):
            told = await world.json(method, f"{NS}/configmaps", {"metadata": {"name": "c"}})
            assert told["code"] == 405

    run(work)


def test_an_address_is_called_just_what_it_is_generated_from() -> None:
    async def work(world: World) -> None:
        parent = {"resource": "services", "namespace": "a", "name": "s"}
        body = {"metadata": {"generateName": "10.9.8.7"}, "spec": {"parentRef": parent}}
        made = await world.json("POST", "/apis/networking.k8s.io/v1/ipaddresses", body)
        assert made["metadata"]["name"] == "10.9.8.7"

    run(work)


def test_tokens_for_accounts_of_another_namespace_are_refused() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        path = f"{NS}/serviceaccounts/default/token"
        told = await world.json("POST", path, {"metadata": {"namespace": "b"}, "spec": {}})
        assert told["message"].startswith("the namespace of the provided object does not match")
        bound = await world.json("POST", path, {"spec": {"boundObjectRef": {}}})
        assert bound["message"] == "cannot bind token to object of type /, Kind="

    run(work)


def test_component_statuses_are_selected() -> None:
    async def work(world: World) -> None:
        path = "/api/v1/componentstatuses"
        assert (await world.json("GET", f"{path}?labelSelector=a%3Db"))["items"] == []
        assert (await world.json("GET", f"{path}/x"))["message"] == 'componentstatus "x" not found'

    run(work)


def test_errors_tell_an_empty_value_from_none() -> None:
    async def work(world: World) -> None:
        path = "/api/v1/persistentvolumes"
        spec = {"accessModes": ["ReadWriteOnce"], "nfs": {"server": "s", "path": "/"}}
        for given, shown in (({}, "null"), ({"capacity": {}}, "{}")):
            told = await world.json("POST", path, {"metadata": {"name": "v"}, "spec": {**spec, **given}})
            assert f"spec.capacity: Unsupported value: {shown}: supported values" in told["message"]

    run(work)


def test_bindings_of_another_namespace_are_refused() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        for meta, text in (({"namespace": "b", "name": "p"}, "the namespace of"), ({}, "Name parameter required.")):
            told = await world.json("POST", f"{NS}/bindings", {"metadata": meta, "target": {"name": "n"}})
            assert told["message"].startswith(text)

    run(work)
