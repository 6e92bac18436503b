"""Pods as a client of the API server meets them."""

from __future__ import annotations

from typing import Any

from tests.apiserver.apiworld import World, run

Object = dict[str, Any]

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
