"""What small requests cost an API server that make it work hard: CPU time and memory, ours beside another's.

Usage: python -m bench.bombs                                  a Tiphys API server of its own
       python -m bench.bombs --against URL --token T --pid N  another server too, such as upstream's; its processes

Each bomb is sent a few times, as a dry run, and the least CPU time counts: of all threads of the server's processes, so
it hardly depends on what else the machine does. Memory is what the processes had at their peak above what they had
before. ``--only`` chooses by a regular expression.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import uvloop

from bench.api import NAMESPACE, clear, connector, cpu_seconds, memory, own_server, ready
from tiphys.api.object import Object
from tiphys.client.errors import ApiError, NotFound
from tiphys.client.rest import Client
from tiphys.wire.http import BodyTooLarge
from tiphys.wire.tls.contexts import client_context

JSON, YAML = "application/json", "application/yaml"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH, APPLY = "application/json-patch+json", "application/apply-patch+yaml"
MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
THINGS = f"/apis/bombs.example.com/v1/namespaces/{NAMESPACE}/"
PORT = 16743


@dataclass(frozen=True, slots=True)
class Bomb:
    name: str
    method: str
    path: str
    body: bytes
    media: str = JSON
    query: dict[str, str] = field(default_factory=lambda: {"dryRun": "All"})


def config_map(**more: Any) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bomb"}, **more}


def pod(**spec: Any) -> Object:
    containers = [{"name": "c", "image": "i"}]
    meta = {"name": "bomb"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": containers, **spec}}


def owners() -> Iterator[Bomb]:
    kind = {"apiVersion": "v1", "kind": "Pod"}
    references = [{**kind, "name": f"p{i}", "uid": f"u{i}"} for i in range(10_000)]
    whole = orjson.dumps(config_map() | {"metadata": {"name": "bomb", "ownerReferences": references}})
    at = f"{MAPS}/bomb"
    patch = orjson.dumps({"metadata": {"ownerReferences": references}})
    applied = {"dryRun": "All", "fieldManager": "bomber", "force": "true"}
    fresh = whole.replace(b'"bomb"', b'"new"')
    yield Bomb("10,000 owner references, create", "POST", MAPS, fresh)
    yield Bomb("the same, update", "PUT", at, whole)
    yield Bomb("the same, apply", "PATCH", at, whole, APPLY, applied)
    yield Bomb("the same, strategic merge", "PATCH", at, patch, STRATEGIC)


def patches() -> Iterator[Bomb]:
    doubling = [{"op": "copy", "from": "/data", "path": "/data/a"}] * 60
    start = [{"op": "add", "path": "/data", "value": {"k": "v" * 40}}]
    yield Bomb("60 copies, each doubles", "PATCH", f"{MAPS}/bomb", orjson.dumps(start + doubling), JSON_PATCH)
    big = [{"op": "add", "path": "/data", "value": {f"k{i}": "v" for i in range(300)}}]
    copies = [{"op": "copy", "from": "/data", "path": f"/data{i}"} for i in range(900)]
    yield Bomb("900 copies of a map", "PATCH", f"{MAPS}/bomb", orjson.dumps(big + copies), JSON_PATCH)


def longs() -> Iterator[Bomb]:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "bomb"}}
    scopes = {**quota, "spec": {"scopes": [f"s{i}" for i in range(2000)]}}
    yield Bomb(
        "2,000 scopes of a quota", "POST", f"/api/v1/namespaces/{NAMESPACE}/resourcequotas", orjson.dumps(scopes)
    )
    storage = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "bomb"}}
    topologies = {**storage, "provisioner": "a/b", "allowedTopologies": [{}] * 2000}
    yield Bomb("2,000 empty topologies", "POST", "/apis/storage.k8s.io/v1/storageclasses", orjson.dumps(topologies))
    ports = {"name": "c", "image": "i", "ports": [{"containerPort": 80}] * 2000}
    yield Bomb("2,000 equal ports of a pod", "POST", PODS, orjson.dumps(pod(containers=[ports])))
    yield Bomb("60,000 empty containers", "POST", PODS, orjson.dumps(pod(containers=[{}] * 60_000)))
    taints = orjson.dumps({"spec": {"taints": [{}] * 960_000}})
    yield Bomb("960,000 empty taints, strategic merge", "PATCH", "/api/v1/nodes/bomb", taints, STRATEGIC)
    keys = "\n".join(f" k{i}: v" for i in range(240_000))
    head = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "new"}\ndata:\n'
    yield Bomb("240,000 keys in YAML", "POST", MAPS, f"{head}{keys}\n".encode(), YAML)
    applied = {"dryRun": "All", "fieldManager": "bomber"}
    whole = f"{head.replace('new', 'bomb')}{keys}\n".encode()
    yield Bomb("the same, apply", "PATCH", f"{MAPS}/bomb", whole, APPLY, applied)


def policies() -> Iterator[Bomb]:
    variables = [{"name": "v0", "expression": "object.metadata.name"}]
    variables += [{"name": f"v{i}", "expression": f"variables.v{i - 1} + variables.v{i - 1}"} for i in range(1, 300)]
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    spec = {
        "matchConstraints": {"resourceRules": rules},
        "variables": variables,
        "validations": [{"expression": "variables.v299 != 'a'"}],
    }
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy"}
    path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    policy = orjson.dumps({**head, "metadata": {"name": "bomb"}, "spec": spec})
    yield Bomb("300 variables of a policy, each twice the last", "POST", path, policy)


def definition(plural: str, rules: Sequence[str], most: int = 900) -> Object:
    items = {"type": "array", "maxItems": most, "items": {"type": "string", "maxLength": 9}}
    properties = {"l": items, "n": {"type": "integer"}}
    validations = [{"rule": rule} for rule in rules]
    spec = {"type": "object", "properties": properties, "x-kubernetes-validations": validations}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.bombs.example.com"},
        "spec": {
            "group": "bombs.example.com",
            "scope": "Namespaced",
            "names": {"kind": plural.title(), "plural": plural},
            "versions": [version],
        },
    }


_PAIRS = "self.l.all(a, self.l.exists(b, b == a + 'x') || true)"
_TEXTS = "self.l.all(a, self.l.all(b, a.matches('^[a-z]+[0-9]*$') && b.matches('^[a-z]')))"
KINDS: dict[str, tuple[str, list[str], int]] = {
    "pairs": ("one rule up to its cost limit", [_PAIRS], 700),
    "tens": ("ten of them", [f"{_PAIRS} && {i} >= 0" for i in range(10)], 700),
    "matches": ("regular expressions on short texts, up to the limit", [_TEXTS], 580),
    "absorbs": ("an error absorbed at every step", ["self.l.all(a, self.l.exists(b, 1 / self.n == 1) || true)"], 700),
}
"""What a rule does, the rules of the definition, and how long a list they allow."""


def expressions() -> Iterator[Bomb]:
    many = definition("many", [f"self.n != {i}" for i in range(2000)])
    yield Bomb("2,000 rules of a definition", "POST", DEFINITIONS, orjson.dumps(many))
    for plural, (name, _, most) in KINDS.items():
        kind = {"apiVersion": "bombs.example.com/v1", "kind": plural.title(), "metadata": {"name": "bomb"}}
        thing = orjson.dumps({**kind, "spec": {"l": [f"i{i}" for i in range(most)], "n": 0}})
        yield Bomb(name, "POST", f"{THINGS}{plural}", thing)


def bombs() -> Iterator[Bomb]:
    for make in (owners, patches, longs, policies, expressions):
        yield from make()


@dataclass(frozen=True, slots=True)
class Target:
    connect: Callable[[], Client]
    pids: Sequence[int]


async def send(client: Client, bomb: Bomb) -> tuple[int, str]:
    """The status of the answer, and what a refusal says."""
    headers = {"content-type": bomb.media}
    try:
        response = await client.request(bomb.method, bomb.path, params=bomb.query, body=bomb.body, headers=headers)
        await response.read()
    except ApiError as error:
        return error.code, f"{error.status.get('message', '')[:90]}"
    except BodyTooLarge:
        return 0, "a refusal of more than 4 MB"
    return response.status, ""


async def cost(target: Target, bomb: Bomb, times: int) -> tuple[float, float, int, str]:
    """Least CPU seconds, most MiB, and the answer. Raises what the connection raises."""
    client, cpu, peak, status, text = target.connect(), float("inf"), 0.0, 0, ""
    for _ in range(times):
        await asyncio.sleep(0.3)
        before, used = sum(memory(pid) for pid in target.pids), cpu_seconds(target.pids)
        for pid in target.pids:
            forget_peak(pid)
        status, text = await send(client, bomb)
        cpu = min(cpu, cpu_seconds(target.pids) - used)
        peak = max(peak, sum(highest(pid) for pid in target.pids) - before)
    await client.close()
    return cpu, peak, status, text


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def highest(pid: int) -> float:
    """MiB at the peak since ``forget_peak``."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


async def furnish(client: Client) -> None:
    """What the bombs are thrown at."""
    await clean(client)
    await ready(client)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "bomb"}}
    made = [(MAPS, config_map(data={"a": "b"})), ("/api/v1/nodes", node)]
    made += [(DEFINITIONS, definition(plural, rules, most)) for plural, (_, rules, most) in KINDS.items()]
    for path, obj in made:
        response = await client.request("POST", path, body=orjson.dumps(obj), headers={"content-type": JSON})
        await response.read()
    for plural in KINDS:
        await served(client, f"{THINGS}{plural}")


async def served(client: Client, path: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await (await client.request("GET", path)).read()
                return
            except NotFound:
                await asyncio.sleep(0.2)


async def clean(client: Client) -> None:
    """Without what bombs are thrown at, also what an earlier run left."""
    for path in ("/api/v1/nodes/bomb", *(f"{DEFINITIONS}/{plural}.bombs.example.com" for plural in KINDS)):
        with suppress(NotFound):
            await (await client.request("DELETE", path)).read()
    await clear(client)


async def throw(targets: Sequence[Target], only: str, times: int) -> None:
    clients = [target.connect() for target in targets]
    for client in clients:
        await furnish(client)
    print("| request | body | CPU | peak | answer |" + " CPU of the other | peak | answer |" * (len(targets) - 1))
    for bomb in bombs():
        if only and not re.search(only, bomb.name):
            continue
        line = f"| {bomb.name} | {len(bomb.body) / 1000:,.0f} KB |"
        for target in targets:
            cpu, peak, status, text = await cost(target, bomb, times)
            line += f" {cpu:.2f} s | {peak:,.0f} MB | {status}{f' {text}' if only else ''} |"
        print(line, flush=True)
    for client in clients:
        await clean(client)
        await client.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--against", help="URL of a running API server")
    options.add_argument("--token", default="", help="token for it")
    options.add_argument("--pid", type=int, action="append", default=[], help="its processes, and its store's")
    options.add_argument("--times", type=int, default=3, help="how often each is sent")
    options.add_argument("--only", default="", help="a regular expression: only bombs whose name it finds")
    arguments = options.parse_args()
    with ExitStack() as stack:
        url, tls, pid = stack.enter_context(own_server(port=PORT))
        targets = [Target(connector(url, tls, ""), [pid])]
        if arguments.against:
            unverified = client_context(verify=False)
            targets.append(Target(connector(arguments.against, unverified, arguments.token), arguments.pid))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(throw(targets, arguments.only, arguments.times))


if __name__ == "__main__":
    main()
