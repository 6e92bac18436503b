"""What the kinds of the apps, batch, autoscaling, storage and certificates groups keep and drop."""

from __future__ import annotations

from typing import Any

from tests.apiserver.apiworld import World, run

APPS = "/apis/apps/v1/namespaces/a"
_GENERATION = "deprecated.daemonset.template.generation"


def _workload(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    selector = {"matchLabels": {"a": "b"}}
    return {"metadata": {"name": "x"}, "spec": {"selector": selector, "template": template, **spec}}


def test_fields_behind_gates_that_are_off_are_dropped() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1, "maxUnavailable": 2}}
        made = await world.json("POST", f"{APPS}/statefulsets", _workload(updateStrategy=strategy))
        assert made["spec"]["updateStrategy"]["rollingUpdate"] == {"partition": 1}
        drivers = "/apis/storage.k8s.io/v1/csidrivers"
        driver = {"metadata": {"name": "d"}, "spec": {"preventPodSchedulingIfMissing": True}}
        assert "preventPodSchedulingIfMissing" not in (await world.json("POST", drivers, driver))["spec"]

    run(work)


def test_a_daemon_set_counts_the_changes_of_its_template() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        made = await world.json("POST", f"{APPS}/daemonsets", _workload())
        assert made["metadata"]["annotations"] == {_GENERATION: "1"}
        owned = made["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"]
        assert owned == {"f:annotations": {".": {}, f"f:{_GENERATION}": {}}}
        changed = _workload(minReadySeconds=1)
        changed["spec"]["template"]["spec"]["hostNetwork"] = True
        assert (await world.json("PUT", f"{APPS}/daemonsets/x", changed))["metadata"]["annotations"] == {
            _GENERATION: "2"
        }
        status = await world.json("PUT", f"{APPS}/daemonsets/x/status", _workload())
        assert status["metadata"]["annotations"] == {_GENERATION: "2"}
        changed["metadata"]["annotations"] = {_GENERATION: "x"}
        refused = await world.json("PUT", f"{APPS}/daemonsets/x", changed)
        assert refused["message"].endswith('as a DaemonSet: strconv.ParseInt: parsing "x": invalid syntax')

    run(work)


def test_labels_that_a_job_has_from_its_template_grow_with_it() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        job = _workload()
        del job["spec"]["selector"]
        job["spec"]["template"]["spec"]["restartPolicy"] = "Never"
        made = await world.json("POST", "/apis/batch/v1/namespaces/a/jobs", job)
        assert made["metadata"]["labels"] == made["spec"]["template"]["metadata"]["labels"]
        assert {"a", "job-name", "controller-uid"} <= made["metadata"]["labels"].keys()

    run(work)


def test_an_autoscaler_of_the_old_version_owns_its_default_target() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
        body = {"metadata": {"name": "x"}, "spec": {"maxReplicas": 2, "scaleTargetRef": target}}
        path = "/apis/autoscaling/v1/namespaces/a/horizontalpodautoscalers"
        made = await world.json("POST", path, body)
        assert made["spec"]["targetCPUUtilizationPercentage"] == 80
        owned = made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
        assert "f:targetCPUUtilizationPercentage" in owned

    run(work)


def test_classes_of_volume_attributes_are_protected() -> None:
    async def work(world: World) -> None:
        body = {"metadata": {"name": "x"}, "driverName": "d", "parameters": {"a": "b"}}
        made = await world.json("POST", "/apis/storage.k8s.io/v1/volumeattributesclasses", body)
        assert made["metadata"]["finalizers"] == ["kubernetes.io/vac-protection"]

    run(work)


def test_an_empty_list_of_scaling_policies_is_refused_not_defaulted() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
        spec = {"maxReplicas": 2, "scaleTargetRef": target, "behavior": {"scaleUp": {"policies": []}}}
        path = "/apis/autoscaling/v2/namespaces/a/horizontalpodautoscalers"
        refused = await world.json("POST", path, {"metadata": {"name": "x"}, "spec": spec})
        text = "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy"
        assert refused["message"].endswith(text)

    run(work)


def test_rows_of_the_old_version_of_an_autoscaler_show_all_its_metrics() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
        metric = {
            "type": "Pods",
            "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}},
        }
        spec = {"maxReplicas": 2, "scaleTargetRef": target, "metrics": [metric]}
        path = "/apis/autoscaling/v2/namespaces/a/horizontalpodautoscalers"
        await world.json("POST", path, {"metadata": {"name": "x"}, "spec": spec})
        wanted = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        found = await world.json("GET", f"{path.replace('v2', 'v1')}/x", **wanted)
        assert found["rows"][0]["cells"][2] == "<unknown>/1"

    run(work)


def test_system_priority_classes_stay() -> None:
    async def work(world: World) -> None:
        path = "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical"
        refused = await world.json("DELETE", path)
        assert refused["message"].endswith("is forbidden: this is a system priority class and cannot be deleted")

    run(work)


def test_a_driver_has_a_generation_from_its_first_change_on() -> None:
    async def work(world: World) -> None:
        path = "/apis/storage.k8s.io/v1/csidrivers"
        made = await world.json("POST", path, {"metadata": {"name": "d"}, "spec": {}})
        assert "generation" not in made["metadata"]
        made["spec"]["requiresRepublish"] = True
        assert (await world.json("PUT", f"{path}/d", made))["metadata"]["generation"] == 1

    run(work)


def test_data_of_a_revision_can_be_applied() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        body = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "r"}, "revision": 1}
        path = f"{APPS}/controllerrevisions/r?fieldManager=m"
        applied = {"content-type": "application/apply-patch+yaml"}
        made = await world.json("PATCH", path, {**body, "data": {"a": {"b": 1}}}, **applied)
        assert made["data"] == {"a": {"b": 1}}
        assert made["metadata"]["managedFields"][0]["fieldsV1"] == {"f:data": {}, "f:revision": {}}

    run(work)
