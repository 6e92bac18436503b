"""Pods as a client of the API server meets them."""

from __future__ import annotations

from typing import Any

from tests.apiserver.apiworld import World, run
from tiphys.api.object import Object
from tiphys.apiserver.admission.pods.runtimeclass import merge_tolerations

PODS = "/api/v1/namespaces/a/pods"


def pod(**spec: Any) -> Object:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


def test_a_pod_without_containers_is_invalid() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        found = await world.json("POST", PODS, pod(containers=None))
        assert found["message"] == 'Pod "p" is invalid: spec.containers: Required value'

    run(work)


def test_a_name_that_no_service_account_can_have() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        found = await world.json("POST", PODS, pod(serviceAccountName="../x"))
        assert found["message"] == (
            'pods "p" is forbidden: error looking up service account a/../x: '
            "invalid resource name \"../x\": [may not contain '/']"
        )

    run(work)


def test_empty_lists_are_owned_and_null() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/roles"
        found = await world.json("POST", roles, {"metadata": {"name": "r"}, "rules": []})
        assert found["rules"] is None
        assert found["metadata"]["managedFields"][0]["fieldsV1"] == {"f:rules": {}}

    run(work)


def test_an_item_without_its_key_has_the_keys_default() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        made = await world.json("POST", PODS, pod(imagePullSecrets=[{}]))
        assert 'k:{"name":""}' in made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:imagePullSecrets"]

    run(work)


LOG = f"{PODS}/p/log"
REFUSED = [
    (f"{LOG}?tailLines=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
    (
        f"{LOG}?tailLines=-1&limitBytes=0&stream=All",
        422,
        'PodLogOptions "p" is invalid: [tailLines: Invalid value: -1: must be greater than or equal to 0, '
        "limitBytes: Invalid value: 0: must be greater than 0, stream: Forbidden: may not be specified]",
    ),
    (
        f"{LOG}?sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
        422,
        'PodLogOptions "p" is invalid: []: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified',
    ),
    (
        f"{LOG}?sinceTime=x",
        400,
        'parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"',
    ),
    (
        f"{PODS}/p/portforward?ports=80,x",
        400,
        'cannot convert to []int32: strconv.ParseUint: parsing "x": invalid syntax',
    ),
    (
        f"{PODS}/p/portforward?ports=70000",
        400,
        'cannot convert to []int32: strconv.ParseUint: parsing "70000": value out of range',
    ),
    (f"{PODS}/a:b:c:d/proxy", 400, 'invalid pod request "a:b:c:d"'),
]


def test_options_of_connections() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await world.json("POST", PODS, pod())
        assert (await world.raw("GET", LOG)).status == 204
        for path, code, message in REFUSED:
            found = await world.json("GET", path)
            assert (found["code"], found["message"]) == (code, message)
        await world.json("POST", f"{PODS}/p/binding", {"metadata": {"name": "p"}, "target": {"name": "n"}})
        assert (await world.json("GET", LOG))["message"] == 'pods "n" not found'

    run(work)


def test_an_eviction_checks_its_options() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await world.json("POST", PODS, pod())
        evict = f"{PODS}/p/eviction"

        async def refused(**more: Any) -> str:
            found: str = (await world.json("POST", evict, {"metadata": {"name": "p"}, **more}))["message"]
            return found

        assert "does not match the namespace sent" in await refused(metadata={"name": "p", "namespace": "b"})
        assert "propagationPolicy: Unsupported value" in await refused(deleteOptions={"propagationPolicy": "x"})
        reading = {"ignoreStoreReadErrorWithClusterBreakingPotential": True}
        assert "can not be set for pod eviction" in await refused(deleteOptions=reading)
        assert (await world.raw("POST", evict, {"metadata": {"name": "p"}})).status == 201
        assert (await world.raw("GET", f"{PODS}/p")).status == 404

    run(work)


def test_tolerations_of_a_runtime_class_join_the_pods() -> None:
    own = {"key": "k", "operator": "Exists"}
    narrow = {"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute"}
    other = {"key": "o", "operator": "Equal", "value": "v", "tolerationSeconds": 5}
    every: Object = {"operator": "Exists"}
    assert merge_tolerations([own, narrow, other]) == [own, other]
    assert merge_tolerations([narrow, own, own]) == [own]
    assert merge_tolerations([other, every]) == [every]


def test_the_server_owns_what_it_writes_of_a_quota() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        quotas = "/api/v1/namespaces/a/resourcequotas"
        await world.json("POST", quotas, {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2"}}})
        status = {"status": {"hard": {"pods": "2"}, "used": {"pods": "0"}}}
        merge = {"content_type": "application/merge-patch+json"}
        await world.json("PATCH", f"{quotas}/q/status", status, **merge)
        await world.json("POST", PODS, pod())
        found = await world.json("GET", f"{quotas}/q")
        assert found["status"]["used"] == {"pods": "1"}
        owners = {entry["manager"]: entry["fieldsV1"] for entry in found["metadata"]["managedFields"]}
        assert owners["kube-apiserver"] == {"f:status": {"f:used": {"f:pods": {}}}}

    run(work)


def test_a_quota_limits_the_devices_of_claims() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        quotas, merge = "/api/v1/namespaces/a/resourcequotas", {"content_type": "application/merge-patch+json"}
        hard = {"gpu.deviceclass.resource.k8s.io/devices": "2", "requests.example.com/gpu": "9"}
        device_class = {"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": "example.com/gpu"}}
        await world.json("POST", "/apis/resource.k8s.io/v1/deviceclasses", device_class)
        await world.json("POST", quotas, {"metadata": {"name": "q"}, "spec": {"hard": hard}})
        status = {"status": {"hard": hard, "used": dict.fromkeys(hard, "0")}}
        await world.json("PATCH", f"{quotas}/q/status", status, **merge)
        claims = "/apis/resource.k8s.io/v1/namespaces/a/resourceclaims"

        def claim(name: str, count: int) -> Object:
            request = {"name": "r", "exactly": {"deviceClassName": "gpu", "count": count}}
            return {"metadata": {"name": name}, "spec": {"devices": {"requests": [request]}}}

        assert (await world.raw("POST", claims, claim("one", 1))).status == 201
        refused = await world.raw("POST", claims, claim("two", 2))
        assert refused.status == 403
        assert (
            "exceeded quota: q, requested: gpu.deviceclass.resource.k8s.io/devices=2,"
            " used: gpu.deviceclass.resource.k8s.io/devices=1, limited: gpu.deviceclass.resource.k8s.io/devices=2"
        ) in refused.body.decode()
        assert (await world.json("GET", f"{quotas}/q"))["status"]["used"] == dict.fromkeys(hard, "1")

    run(work)
