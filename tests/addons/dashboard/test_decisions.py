"""What the page decides by itself, in its own code in Chromium, against what the cluster decides: the scheduler's
filters, the authorizer, and packets in network namespaces. Clusters are made at random; a failure names its seed."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from tests.apiserver.apiworld import World as Server
from tests.apiserver.apiworld import run
from tests.proxy.lab import PODS
from tests.proxy.test_policy import Enforced, net, pod, policy  # noqa: F401 - a fixture
from tests.scheduler.world import World
from tests.scheduler.world import node as plain_node
from tiphys.api.object import Object
from tiphys.api.pods.resources import pod_requests
from tiphys.proxy.policy.names import TABLE
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.plugins.node_affinity import NodeAffinity
from tiphys.scheduler.plugins.node_ports import NodePorts
from tiphys.scheduler.plugins.node_resources_fit import NodeResourcesFit
from tiphys.scheduler.plugins.node_unschedulable import NodeUnschedulable
from tiphys.scheduler.plugins.taint_toleration import TaintToleration

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser: apt-get install chromium")

FILTERS = (NodeUnschedulable, TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit)
HERE = "http://dashboard.test"


def asked(name: str, cases: list[Any]) -> list[Any]:
    """What a function of the page's own code gives for each list of arguments; nothing leaves the browser."""
    built = files("tiphys.addons.dashboard").joinpath("web")

    def answer(route: Any) -> None:
        path = route.request.url.removeprefix(HERE)
        if path == "/":
            route.fulfill(content_type="text/html", body="")
        else:
            route.fulfill(content_type="text/javascript", body=built.joinpath(path.lstrip("/")).read_text())

    with sync_api.sync_playwright() as playwright:
        program, words = shutil.which("chromium"), ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=words)
        page = browser.new_page()
        page.route("**/*", answer)
        page.goto(f"{HERE}/")
        call = """async ([name, text]) => {
            const decide = (await import('/assets/decisions.js'))[name];
            return JSON.parse(text).map((given) => decide(...given));
        }"""
        found: list[Any] = page.evaluate(call, [name, json.dumps(cases)])
        browser.close()
    return found


class Maker:
    """Nodes and pods of few names and values, so that they often match, and often nearly."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.maybe = lambda share=0.5: rng.random() < share

    def node(self, number: int) -> Object:
        rng = self.rng
        labels = {key: rng.choice(("ssd", "5", "-7", "010", "")) for key in ("disk", "rank") if self.maybe(0.7)}
        resources = {"example.com/gpu": str(rng.randint(0, 2))} if self.maybe(0.3) else {}
        made = plain_node(
            f"n{number}", cpu=rng.choice(("1", "1500m", "2")), memory=rng.choice(("1Gi", "1073741825", "2e9")),
            pods=rng.choice((3, 110)), labels=labels, resources=resources,
        )  # fmt: skip
        if self.maybe(0.3):
            made["spec"]["taints"] = [self.taint() for _ in range(rng.randint(1, 2))]
        if self.maybe(0.2):
            made["spec"]["unschedulable"] = True
        return made

    def taint(self) -> Object:
        rng = self.rng
        made: Object = {
            "key": rng.choice(("team", "node.kubernetes.io/not-ready", "node.kubernetes.io/unschedulable")),
            "effect": rng.choice(("NoSchedule", "NoExecute", "PreferNoSchedule")),
        }
        return made | ({"value": rng.choice(("a", "1"))} if self.maybe() else {})

    def toleration(self) -> Object:
        rng = self.rng
        made = {
            "key": rng.choice(("team", "node.kubernetes.io/unschedulable", "node.kubernetes.io/not-ready", "")),
            "operator": rng.choice(("Exists", "Equal", "", "Gt")),
            "value": rng.choice(("a", "1", "")),
            "effect": rng.choice(("", "NoSchedule", "NoExecute")),
        }
        return {name: value for name, value in made.items() if value}

    def requests(self) -> Object:
        rng = self.rng
        amounts = {"cpu": ("1u", "100m", "0.3", "1", "1001m"), "memory": ("0", "100Mi", "1Gi", "1e9", "524288Ki")}
        amounts["example.com/gpu"] = ("1",)
        return {name: rng.choice(texts) for name, texts in amounts.items() if self.maybe(0.4)}

    def container(self, name: str, *, first: bool = False) -> Object:
        made: Object = {"name": name, "resources": {"requests": self.requests()}}
        if self.maybe(0.3):
            port = {"containerPort": 80, "hostPort": self.rng.choice((80, 81))}
            port |= {"protocol": "UDP"} if self.maybe(0.3) else {}
            port |= {"hostIP": self.rng.choice(("0.0.0.0", "192.0.2.1", "192.0.2.2"))} if self.maybe() else {}
            made["ports"] = [port]
        if first and self.maybe():
            made["restartPolicy"] = "Always"
        return made

    def pod(self, name: str, on: str = "") -> Object:
        spec: Object = {"containers": [self.container(f"c{i}") for i in range(self.rng.randint(1, 2))]}
        spec["initContainers"] = [self.container(f"i{i}", first=True) for i in range(self.rng.randint(0, 2))]
        if self.maybe(0.2):
            spec["resources"] = {"requests": self.requests()}
        if self.maybe(0.2):
            spec["overhead"] = {"cpu": "10m", "memory": "1Mi"}
        if on:
            spec["nodeName"] = on
        status = self.status(spec) if on else {}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "uid": name},
            "spec": spec,
            "status": status,
        }

    def status(self, spec: Object) -> Object:
        """Of a pod that runs, and may be in the middle of a resize."""
        made: Object = {"phase": self.rng.choice(("Running", "Running", "Succeeded", "Failed"))}
        for ours, theirs in (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")):
            made[ours] = [{"name": each["name"], "resources": {"requests": self.requests()}} for each in spec[theirs]]
            for each in made[ours]:
                if self.maybe(0.3):
                    each["allocatedResources"] = self.requests()
        if self.maybe(0.2):
            made["resources"] = {"requests": self.requests()}
        if self.maybe(0.2):
            made["conditions"] = [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]
        return made

    def waiting(self) -> Object:
        made = self.pod("p")
        if self.maybe(0.3):
            made["spec"]["tolerations"] = [self.toleration() for _ in range(self.rng.randint(1, 3))]
        if self.maybe(0.2):
            made["spec"]["nodeSelector"] = {"disk": "ssd"}
        if self.maybe(0.4):
            terms = [self.term() for _ in range(self.rng.randint(1, 2))]
            required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
            made["spec"]["affinity"] = {"nodeAffinity": required}
        return made

    def term(self) -> Object:
        made: Object = {"matchExpressions": [self.expression() for _ in range(self.rng.randint(0, 2))]}
        if self.maybe(0.2):
            field = {"key": "metadata.name", "operator": self.rng.choice(("In", "NotIn")), "values": ["n0"]}
            made["matchFields"] = [field]
        return made

    def expression(self) -> Object:
        operator = self.rng.choice(("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"))
        values = {"In": ["ssd", "5"], "NotIn": ["ssd"], "Gt": ["4"], "Lt": ["-3"]}.get(operator)
        made: Object = {"key": self.rng.choice(("disk", "rank")), "operator": operator}
        return made | ({"values": values} if values else {})


def said_once(node: Object) -> Object:
    """Without the taint that says of a cordoned node that it is."""
    taint = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    kept = [each for each in node["spec"].get("taints") or () if each != taint or not node["spec"].get("unschedulable")]
    return {**node, "spec": {**node["spec"], "taints": kept}}


def objections(pod: Object, nodes: list[Object], pods: list[Object]) -> dict[str, set[str]]:
    """By node, the plugins of the scheduler that refuse it, each asked by itself."""
    world = World(map(said_once, nodes), [each for each in pods if each["status"]["phase"] == "Running"])
    info, found = PodInfo(pod), {node["metadata"]["name"]: set() for node in nodes}
    for kind in FILTERS:
        plugin, state = kind(world.handle), CycleState()
        narrowed = plugin.pre_filter(state, info)[0] if hasattr(plugin, "pre_filter") else None
        for name in found:
            row = world.cache.table.get(name)
            assert row is not None
            outside = narrowed is not None and name not in narrowed.node_names
            if outside or plugin.filter(state, info, row) is not None:
                found[name].add(kind.name)
    return found


def test_what_makes_a_pod_pending_is_what_the_schedulers_filters_say() -> None:
    cases, expected, refused = [], [], set()
    for seed in range(600):
        make = Maker(random.Random(seed))
        nodes = [make.node(number) for number in range(2)]
        pods = [make.pod(f"q{number}", on=make.rng.choice(("n0", "n1"))) for number in range(make.rng.randint(0, 4))]
        waiting = make.waiting()
        cases.append([waiting, nodes, pods])
        wanted = objections(waiting, nodes, pods)
        expected.append(wanted)
        refused |= set.union(*wanted.values())
    assert refused == {kind.name for kind in FILTERS}, "the pictures show every filter at work"
    for seed, (answers, wanted) in enumerate(zip(asked("explain", cases), expected, strict=True)):
        found = {each["node"]: {reason["by"] for reason in each["reasons"]} for each in answers}
        assert found == wanted, f"seed {seed}"
        assert all(reason["remedy"] for each in answers for reason in each["reasons"])


def test_what_a_pod_requests_is_what_the_scheduler_counts() -> None:
    pods = [Maker(random.Random(seed)).pod("p", on="n0") for seed in range(400)]
    for seed, found in enumerate(asked("requestsOf", [[each] for each in pods])):
        exact = pod_requests(pods[seed], resizing=True, pod_level_resizing=True)
        wanted = {name: amount.milli_value() / 1000 for name, amount in exact.items() if amount}
        given = {name: value for name, value in found.items() if value}
        assert given == pytest.approx(wanted, abs=1e-3), f"seed {seed}"


RBAC = "/apis/rbac.authorization.k8s.io/v1"
GROUP = "rbac.authorization.k8s.io"


def some_rule(rng: random.Random) -> Object:
    def some(*words: str) -> list[str]:
        return rng.sample(words, rng.randint(1, 2))

    made: Object = {
        "verbs": some("get", "delete", "*"),
        "apiGroups": some("", "apps", "*"),
        "resources": some("pods", "pods/log", "*/log", "deployments", "pods/*", "*"),
    }
    return made | ({"resourceNames": ["one"]} if rng.random() < 0.2 else {})


def test_who_can_do_what_is_what_the_authorizer_says() -> None:
    rng = random.Random(15)
    subjects = [{"kind": "User", "apiGroup": GROUP, "name": "ann"}, {"kind": "Group", "apiGroup": GROUP, "name": "ops"},
                {"kind": "ServiceAccount", "namespace": "b", "name": "robot"}]  # fmt: skip
    identities = {"ann": ("ann", []), "ops": ("somebody", ["ops"]), "robot": ("system:serviceaccount:b:robot", [])}

    questions = [
        {"verb": verb, "group": group, "resource": resource, "name": name, "namespace": namespace}
        for verb in ("get", "delete")
        for group, resource in (("", "pods"), ("", "pods/log"), ("apps", "deployments"), ("", "secrets"))
        for name in ("", "one")
        for namespace in ("a", "b", "")
    ]
    lists: list[list[Object]] = []
    expected: list[tuple[Object, set[str]]] = []

    async def work(server: Server) -> None:
        await server.namespace("a")
        await server.namespace("b")
        for number in range(24):
            kind, place = rng.choice((("Role", "a"), ("Role", "b"), ("ClusterRole", "")))
            where = f"{RBAC}/namespaces/{place}" if place else RBAC
            made = {"metadata": {"name": f"r{number}"}, "rules": [some_rule(rng) for _ in range(rng.randint(0, 2))]}
            await server.json("POST", f"{where}/{kind.lower()}s", made)
            ref = {"apiGroup": GROUP, "kind": kind, "name": rng.choice((f"r{number}", "gone"))}
            bound = {"metadata": {"name": f"b{number}"}, "roleRef": ref, "subjects": [rng.choice(subjects)]}
            space = place or rng.choice(("a", "b", ""))
            where = f"{RBAC}/namespaces/{space}/rolebindings" if space else f"{RBAC}/clusterrolebindings"
            await server.json("POST", where, bound)
        await server.settle()
        kinds = ("roles", "clusterroles", "rolebindings", "clusterrolebindings")
        lists.extend([(await server.json("GET", f"{RBAC}/{plural}"))["items"] for plural in kinds])
        for question in questions:
            may = {who for who, identity in identities.items() if await allowed(server, *identity, question)}
            expected.append((question, may))

    run(work)
    answers = asked("whoCan", [[question, *lists] for question in questions])
    for (question, may), grants in zip(expected, answers, strict=True):
        assert {grant["subject"]["name"] for grant in grants} & identities.keys() == may, question
    assert len({frozenset(may) for _, may in expected}) > 3, "the questions have different answers"


async def allowed(server: Server, user: str, groups: list[str], question: Object) -> bool:
    resource, _, subresource = question["resource"].partition("/")
    attributes = {**question, "resource": resource, "subresource": subresource}
    review = {"spec": {"user": user, "groups": groups, "resourceAttributes": attributes}}
    answer = await server.json("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    found: bool = answer["status"]["allowed"]
    return found


SPACES = {name: {"metadata": {"name": name, "labels": {"name": name}}} for name in ("default", "other")}


def some_policy(rng: random.Random, name: str) -> Object:
    app = lambda: {"matchLabels": {"app": rng.choice(("web", "client", "nobody"))}}  # noqa: E731
    block = {"cidr": "10.0.0.0/8", "except": [f"{PODS[1]}/32"]} if rng.random() < 0.5 else {"cidr": f"{PODS[1]}/31"}
    peers: list[Callable[[], Object]] = [
        lambda: {"podSelector": app()},
        lambda: {
            "podSelector": app(),
            "namespaceSelector": {"matchLabels": {"name": rng.choice(("default", "other"))}},
        },
        lambda: {"ipBlock": block},
    ]
    ports = [{"port": 8080}, {"port": "web"}, {"port": 9000, "endPort": 9100}, {"protocol": "UDP"}, {}]

    def rules(side: str) -> list[Object]:
        made: list[Object] = []
        for _ in range(rng.randint(0, 2)):
            rule: Object = {side: [rng.choice(peers)() for _ in range(rng.randint(0, 2))]} if rng.random() < 0.8 else {}
            made.append(rule | ({"ports": rng.sample(ports, rng.randint(1, 2))} if rng.random() < 0.6 else {}))
        return made

    types = rng.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"]))
    more = {"ingress": rules("from")} | ({"egress": rules("to")} if "Egress" in types else {})
    return policy(name, types=types, selector=rng.choice(({}, app())), **more)


@pytest.mark.root
def test_what_policies_let_through_is_what_packets_find(net: Any) -> None:  # noqa: F811
    """A client asks two ports of a server, under policies that both have to let through."""
    server, client = pod(PODS[0], app="web"), pod(PODS[1], app="client")
    rounds = [(seed, [some_policy(random.Random(seed * 10 + n), f"p{n}") for n in range(2)]) for seed in range(12)]
    tries = [(seed, policies, port) for seed, policies in rounds for port in (8080, 9090)]
    sides = (("Egress", client, server), ("Ingress", server, client))
    cases = [[*side, port, "TCP", policies, SPACES] for _, policies, port in tries for side in sides]
    verdicts = [each["allowed"] for each in asked("verdict", cases)]
    found = [out and into for out, into in zip(verdicts[::2], verdicts[1::2], strict=True)]
    assert {*found} == {True, False}
    enforced = Enforced(net)
    try:
        for (seed, policies, port), reached in zip(tries, found, strict=True):
            enforced.has(*policies)
            assert enforced.reaches(net.pods[1], PODS[0], port) == reached, f"seed {seed}, port {port}"
    finally:
        enforced._apply([f"delete table ip {TABLE}"])
