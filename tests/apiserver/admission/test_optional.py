"""Admission plugins that are off by default, each by a table of requests and what becomes of them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.apiserver.apiworld import World, pod, run
from tiphys.apiserver.config import Config

Object = dict[str, Any]

PODS = "/api/v1/namespaces/default/pods"
EVENTS = "/api/v1/namespaces/{}/events"


def with_plugin(name: str, document: Any = None) -> Config:
    return Config(
        seed=1, enable_admission_plugins=(name,), admission_config={} if document is None else {name: document}
    )


async def annotate(world: World, **annotations: str | None) -> None:
    patch = {"metadata": {"annotations": {f"scheduler.alpha.kubernetes.io/{k}": v for k, v in annotations.items()}}}
    headers = {"content_type": "application/merge-patch+json"}
    answer = await world.json("PATCH", "/api/v1/namespaces/default", patch, **headers)
    assert answer["kind"] == "Namespace"
    await world.settle()


async def default_account(world: World) -> None:
    await world.json("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})


def test_everything_is_denied() -> None:
    async def work(world: World) -> None:
        answer = await world.json("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "c"}})
        assert (answer["code"], answer["message"]) == (
            403,
            'configmaps "c" is forbidden: admission control is denying all modifications',
        )
        assert (await world.raw("GET", "/api/v1/namespaces/default")).status == 200

    run(work, with_plugin("AlwaysDeny"))


def test_plugins_of_features_that_are_off_may_be_named() -> None:
    async def work(world: World) -> None:
        made = await world.raw("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "c"}})
        assert made.status == 201

    run(work, Config(seed=1, enable_admission_plugins=("AlwaysAdmit", "ClusterTrustBundleAttest")))


def test_a_missing_namespace_is_made_unless_it_is_a_dry_run() -> None:
    async def work(world: World) -> None:
        body = {"metadata": {"name": "c"}}
        assert (await world.raw("POST", "/api/v1/namespaces/new/configmaps?dryRun=All", body)).status == 404
        assert (await world.raw("GET", "/api/v1/namespaces/new")).status == 404
        assert (await world.raw("POST", "/api/v1/namespaces/new/configmaps", body)).status == 201
        made = await world.json("GET", "/api/v1/namespaces/new")
        assert (made["status"]["phase"], made["spec"]) == ("Active", {"finalizers": ["kubernetes"]})

    run(work, with_plugin("NamespaceAutoProvision"))


def test_nothing_is_written_into_a_namespace_that_is_not_there() -> None:
    """Without NamespaceLifecycle, which would refuse it, too."""

    async def work(world: World) -> None:
        answer = await world.json("POST", "/api/v1/namespaces/none/configmaps", {"metadata": {"name": "c"}})
        assert (answer["code"], answer["message"]) == (404, 'namespaces "none" not found')
        assert (await world.raw("POST", "/api/v1/namespaces", {"metadata": {"name": "none"}})).status == 201
        assert (
            await world.raw("POST", "/api/v1/namespaces/none/configmaps", {"metadata": {"name": "c"}})
        ).status == 201

    config = Config(
        seed=1, enable_admission_plugins=("NamespaceExists",), disable_admission_plugins=("NamespaceLifecycle",)
    )
    run(work, config)


def test_images_are_always_pulled() -> None:
    async def work(world: World) -> None:
        await default_account(world)
        wanted = pod(
            "p",
            initContainers=[{"name": "i", "image": "i", "imagePullPolicy": "Never"}],
            volumes=[{"name": "v", "image": {"reference": "r", "pullPolicy": "IfNotPresent"}}],
        )
        made = await world.json("POST", PODS, wanted)
        spec = made["spec"]
        policies = [one["imagePullPolicy"] for one in (*spec["containers"], *spec["initContainers"])]
        assert policies == ["Always", "Always"]
        assert spec["volumes"][0]["image"]["pullPolicy"] == "Always"

    run(work, with_plugin("AlwaysPullImages"))


@pytest.mark.parametrize(("key", "status"), [("kubernetes.io/hostname", 201), ("zone", 403), ("", 403)])
def test_required_anti_affinity_is_between_nodes_only(key: str, status: int) -> None:
    async def work(world: World) -> None:
        await default_account(world)
        term = {"topologyKey": key, "labelSelector": {}}
        rules = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
        answer = await world.raw("POST", PODS, pod("p", affinity={"podAntiAffinity": rules}))
        assert answer.status == (422 if not key else status)
        if status == 403 and key:
            assert orjson.loads(answer.body)["message"] == (  # type: ignore[arg-type]
                'pods "p" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey zone but only'
                " key kubernetes.io/hostname is allowed"
            )
        soft = {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {**term, "topologyKey": "z"}}
            ]
        }
        assert (await world.raw("POST", PODS, pod("q", affinity={"podAntiAffinity": soft}))).status == 201

    run(work, with_plugin("LimitPodHardAntiAffinityTopology"))


def test_services_get_no_new_external_ips() -> None:
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    path = "/api/v1/namespaces/default/services"

    async def before(world: World) -> None:
        """What was there stays; no more is added."""
        answer = await world.json("POST", path, {**service, "spec": {**service["spec"], "externalIPs": ["192.0.2.1"]}})  # type: ignore[dict-item]
        assert answer["message"] == 'services "s" is forbidden: Use of external IPs is denied by admission control'
        made = await world.json("POST", path, service)
        made["spec"]["externalIPs"] = ["192.0.2.1"]
        assert (await world.raw("PUT", f"{path}/s", made)).status == 403

    run(before, with_plugin("DenyServiceExternalIPs"))


EXTENDED = [
    ({}, [], []),
    ({"requests": {"cpu": "1"}}, [], []),
    (
        {"requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "1"}},
        [],
        [{"key": "example.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    ),
    (
        {"requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "1"}},
        [{"key": "example.com/gpu", "operator": "Equal", "value": "x", "effect": "NoSchedule"}],
        [
            {"key": "example.com/gpu", "operator": "Equal", "value": "x", "effect": "NoSchedule"},
            {"key": "example.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        ],
    ),
    (
        {"requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "1"}},
        [{"key": "example.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        [{"key": "example.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    ),
]


@pytest.mark.parametrize(("resources", "own", "wanted"), EXTENDED)
def test_pods_tolerate_the_taints_of_the_devices_that_they_ask_for(
    resources: Object, own: list[Object], wanted: list[Object]
) -> None:
    async def work(world: World) -> None:
        await default_account(world)
        containers = [{"name": "c", "image": "i", "resources": resources}]
        made = await world.json("POST", PODS, {**pod("p"), "spec": {"containers": containers, "tolerations": own}})
        kept = [one for one in made["spec"]["tolerations"] if not one["key"].startswith("node.kubernetes.io/")]
        assert kept == wanted

    run(work, with_plugin("ExtendedResourceToleration"))


SELECTORS: list[tuple[str, str | None, str, Object, Object | None]] = [
    ("", None, "", {}, {}),
    ("infra = false", None, "", {}, {"infra": "false"}),
    ("", " infra = false ", "", {}, {"infra": "false"}),
    ("infra = false", "infra=true", "", {}, {"infra": "true"}),
    ("infra = false", "", "", {}, {}),
    ("infra = false", "infra=true", "", {"env": "test"}, {"infra": "true", "env": "test"}),
    ("env = test", "infra=true", "", {"infra": "false"}, None),
    ("env=dev", "infra=false, env = test", "", {"env": "dev", "color": "blue"}, None),
    (
        "env=dev",
        "infra=false, env = dev",
        "env=dev, infra=false, color=blue",
        {"env": "dev", "color": "blue"},
        {"infra": "false", "env": "dev", "color": "blue"},
    ),
    ("env=dev", "infra=false, env = dev", "env=dev, infra=true, color=blue", {"env": "dev", "color": "blue"}, None),
    ("env=dev", None, "env=prd", {}, None),
]


@pytest.mark.parametrize(("cluster", "namespace", "allowed", "own", "merged"), SELECTORS)
def test_a_namespace_says_on_which_nodes_its_pods_run(
    cluster: str, namespace: str | None, allowed: str, own: Object, merged: Object | None
) -> None:
    async def work(world: World) -> None:
        await default_account(world)
        await annotate(world, **{"node-selector": namespace})
        answer = await world.json("POST", PODS, pod("p", nodeSelector=own))
        if merged is None:
            assert answer["code"] == 403
        else:
            assert answer["spec"].get("nodeSelector", {}) == merged

    selectors = {"clusterDefaultNodeSelector": cluster, "default": allowed}
    run(work, with_plugin("PodNodeSelector", {"podNodeSelectorPluginConfig": selectors}))


def test_a_selector_that_makes_no_sense_is_told() -> None:
    async def work(world: World) -> None:
        await default_account(world)
        await annotate(world, **{"node-selector": "a=b=c"})
        answer = await world.json("POST", PODS, pod("p"))
        assert (answer["code"], answer["message"]) == (500, "invalid selector: [a b c]")

    run(work, with_plugin("PodNodeSelector"))


def toleration(value: str = "testValue") -> Object:
    return {"key": "testKey", "operator": "Equal", "value": value, "effect": "NoSchedule"}


PRESSURE = {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}
ONE, OTHER = [toleration()], [toleration("testValue1")]
BURSTABLE = {"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}}
TOLERATIONS: list[tuple[Object, list[Object], Any, Any, list[Object], list[Object], list[Object] | None]] = [
    # resources, cluster's default, namespace's default, namespace's and cluster's allowed, the pod's, the outcome
    ({}, ONE, None, None, [], [], ONE),
    ({}, ONE, [], None, [], ONE, ONE),
    ({}, [], ONE, None, [], ONE, ONE),
    ({}, [], ONE, None, [], [], ONE),
    ({}, [], ONE, None, [], OTHER, [*OTHER, *ONE]),
    ({}, [toleration("testValue2")], [], None, [], OTHER, OTHER),
    ({}, [], ONE, ONE, [], [], ONE),
    ({}, ONE, [], None, [], [], []),
    ({}, [], None, [], OTHER, ONE, ONE),
    ({}, [], ONE, OTHER, [], [], None),
    ({}, [], None, None, OTHER, ONE, None),
    (BURSTABLE, [], ONE, [*ONE, PRESSURE], [], [], [*ONE, PRESSURE]),
    (BURSTABLE, [], ONE, ONE, [], [], None),
    (BURSTABLE, [], [], None, [], [{"operator": "Exists"}], [{"operator": "Exists"}]),
]


@pytest.mark.parametrize(("resources", "default", "spaces", "allowed", "cluster", "own", "outcome"), TOLERATIONS)
def test_a_namespace_says_what_its_pods_tolerate(
    resources: Object,
    default: list[Object],
    spaces: Any,
    allowed: Any,
    cluster: list[Object],
    own: list[Object],
    outcome: Any,
) -> None:
    async def work(world: World) -> None:
        await default_account(world)
        said = {"defaultTolerations": spaces, "tolerationsWhitelist": allowed}
        await annotate(
            world, **{name: None if value is None else orjson.dumps(value).decode() for name, value in said.items()}
        )
        containers = [{"name": "c", "image": "i", "resources": resources}]
        answer = await world.json("POST", PODS, {**pod("p"), "spec": {"containers": containers, "tolerations": own}})
        if outcome is None:
            scope = "cluster" if allowed is None else "namespace"
            assert (answer["code"], answer["message"]) == (
                500,
                "pod tolerations (possibly merged with namespace default tolerations) conflict with its"
                f" {scope} whitelist",
            )
        else:
            assert answer["spec"].get("tolerations", []) == outcome

    document = {
        "apiVersion": "podtolerationrestriction.admission.k8s.io/v1alpha1",
        "kind": "Configuration",
        "default": default,
        "whitelist": cluster,
    }
    name = "PodTolerationRestriction"
    off = ("DefaultTolerationSeconds",)
    run(
        work,
        Config(
            seed=1, enable_admission_plugins=(name,), disable_admission_plugins=off, admission_config={name: document}
        ),
    )


def event(number: int, component: str = "c", about: str = "p") -> Object:
    return {
        "metadata": {"name": f"e{number}"},
        "involvedObject": {"kind": "Pod", "name": about, "namespace": "default"},
        "source": {"component": component},
    }


Step = tuple[str, str, str, int]
"""A user, a source, an object, and the status that is wanted; or seconds to wait."""
ALLOWED, REFUSED = 201, 429
RATES: list[tuple[Object, list[Any]]] = [
    (
        {"type": "Server", "burst": 3},
        [("u", "c", "p", ALLOWED)] * 3 + [("u", "c", "p", REFUSED), 1, ("u", "c", "p", ALLOWED)],
    ),
    ({"type": "User", "burst": 1}, [("a", "c", "p", ALLOWED), ("a", "c", "p", REFUSED), ("b", "c", "p", ALLOWED)]),
    (
        {"type": "SourceAndObject", "burst": 1},
        [("a", "c", "p", ALLOWED), ("b", "c", "p", REFUSED), ("a", "d", "p", ALLOWED), ("a", "c", "q", ALLOWED)],
    ),
    (
        {"type": "SourceAndObject", "burst": 1, "cacheSize": 2},
        [("a", "1", "p", 201), ("a", "2", "p", 201), ("a", "1", "p", 429), ("a", "3", "p", 201), ("a", "2", "p", 201)],
    ),
    ({"type": "Namespace", "burst": 2}, [("a", "c", "p", 201), ("b", "d", "q", 201), ("a", "c", "p", 429)]),
]


@pytest.mark.parametrize(("limit", "steps"), RATES)
def test_events_are_limited_in_their_rate(limit: Object, steps: list[Any]) -> None:
    async def work(world: World) -> None:
        for number, step in enumerate(steps):
            if isinstance(step, int):
                await world.clock.sleep(step)
                continue
            user, component, about, status = step
            path, caller = EVENTS.format("default"), (user, ("system:masters",))
            dry = await world.raw("POST", f"{path}?dryRun=All", event(1000 + number, component, about), user=caller)
            assert dry.status == 201  # costs nothing
            answer = await world.raw("POST", path, event(number, component, about), user=caller)
            assert answer.status == status, (number, step)
            if status == REFUSED:
                assert orjson.loads(answer.body)["message"].startswith(  # type: ignore[arg-type]
                    f"Too many requests: limit reached on type {limit['type']} for key "
                )
        made = await world.raw("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "c"}})
        assert made.status == 201

    document = {
        "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1",
        "kind": "Configuration",
        "limits": [{"qps": 1, **limit}],
    }
    run(work, with_plugin("EventRateLimit", document))
