"""Answers to the letter: methods, media types, paths below subresources, preconditions, immutable objects.

Each case was put to kube-apiserver v1.36 beside this server.
"""

from __future__ import annotations

import orjson
import pytest

from tests.apiserver.apiworld import World, run
from tests.apiserver.test_openapi import WHEELS
from tiphys.api.object import Object
from tiphys.wire.http import Headers, Request, Response

MAPS = "/api/v1/namespaces/default/configmaps"
SECRETS = "/api/v1/namespaces/default/secrets"
PODS = "/api/v1/namespaces/default/pods"
CUSTOM = "/apis/parts.test/v1/namespaces/default/wheels"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
NOT_ALLOWED = "the server does not allow this method on the requested resource"
NO_PATH = "the server could not find the requested resource"
WRITTEN = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
SEALED = "Forbidden: field is immutable when `immutable` is set"


def body_of(response: Response) -> bytes:
    assert isinstance(response.body, bytes)
    return response.body


def status_of(response: Response) -> tuple[int, str]:
    """The code, and the message of a Status."""
    return response.status, orjson.loads(body_of(response) or b"{}").get("message", "")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/watch/configmaps",
        "/api/v1/watch/namespaces/default/configmaps",
        "/api/v1/watch/namespaces/default/configmaps/a",
        "/apis/apps/v1/watch/deployments",
    ],
)
def test_watches_by_path_are_read_only(method: str, path: str) -> None:
    async def work(world: World) -> None:
        assert status_of(await world.raw(method, path)) == (405, NOT_ALLOWED)

    run(work)


@pytest.mark.parametrize(
    ("path", "accept", "expected"),
    [
        ("/.well-known/openid-configuration", "application/json", 200),
        ("/.well-known/openid-configuration", "text/html", "406: Not Acceptable"),
        ("/openid/v1/jwks", "application/jwk-set+json", 200),
        ("/openid/v1/jwks", "application/json", "406: Not Acceptable"),
        ("/openid/v1/jwks", "*/*", 200),
        ("/version", "application/json;as=Table;v=v1;g=meta.k8s.io", 200),
        ("/version", "text/html", "406: Not Acceptable"),
        (f"{PODS}/p/log", "text/html", "406: Not Acceptable"),
        (f"{PODS}/p/log", "application/*", "406: Not Acceptable"),
        (f"{CUSTOM}/w", "application/*", 200),
        (CUSTOM, "application/*", 200),
        (f"{CUSTOM}/w", "text/html", f"only the following media types are accepted: {WRITTEN}"),
        (f"{MAPS}/a", "text/html", "406: Not Acceptable"),
    ],
)
def test_what_cannot_be_sent_is_refused(path: str, accept: str, expected: int | str) -> None:
    async def work(world: World) -> None:
        await prepare(world)
        response = await world.raw("GET", path, accept=accept)
        if isinstance(expected, int):
            assert response.status == expected
        else:
            code, message = status_of(response)
            assert (code, message[: len(expected)]) == (406, expected)

    run(work)


async def prepare(world: World) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    for path, body in (
        ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", with_scale(WHEELS)),
        (MAPS, {"metadata": {"name": "a"}}),
        ("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}}),
        (PODS, {"metadata": {"name": "p"}, "spec": spec}),
        (DEPLOYMENTS, deployment()),
    ):
        assert (await world.raw("POST", path, body)).status in (201, 409), path
    await world.clock.sleep(5)
    wheel = {"apiVersion": "parts.test/v1", "kind": "Wheel", "metadata": {"name": "w"}}
    assert (await world.raw("POST", CUSTOM, wheel)).status == 201


def with_scale(definition: Object) -> Object:
    found: Object = orjson.loads(orjson.dumps(definition))
    scale = {"specReplicasPath": ".spec.r", "statusReplicasPath": ".status.r"}
    found["spec"]["versions"][0]["subresources"] = {"status": {}, "scale": scale}
    return found


def deployment() -> Object:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    return {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}


@pytest.mark.parametrize(
    ("path", "method"),
    [
        (f"{PODS}/p/status/x", "GET"),
        (f"{PODS}/p/log/x", "GET"),
        (f"{PODS}/p/exec/x", "POST"),
        (f"{DEPLOYMENTS}/d/scale/x", "GET"),
        ("/api/v1/namespaces/default/status/x", "GET"),
        ("/api/v1/namespaces/default/finalize/x", "PUT"),
    ],
)
def test_below_a_subresource_there_is_nothing(path: str, method: str) -> None:
    async def work(world: World) -> None:
        await prepare(world)
        assert status_of(await world.raw(method, path)) == (404, NO_PATH)

    run(work)


@pytest.mark.parametrize("part", ["", "/status", "/scale"])
def test_custom_resources_take_no_strategic_merge_patch(part: str) -> None:
    async def work(world: World) -> None:
        await prepare(world)
        media = "application/strategic-merge-patch+json"
        code, message = status_of(await world.raw("PATCH", f"{CUSTOM}/w{part}", {}, content_type=media))
        known = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
        assert (code, message.rpartition(": ")[2]) == (415, known)

    run(work)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT"])
def test_what_custom_resources_there_are_is_told_by_any_method(method: str) -> None:
    async def work(world: World) -> None:
        await prepare(world)
        assert (await world.raw(method, "/apis/parts.test/v1")).status == 200
        assert (await world.raw("POST", "/apis/apps/v1")).status == 405

    run(work)


@pytest.mark.parametrize("preconditions", [{"uid": ""}, {"resourceVersion": ""}, {"uid": "other"}])
@pytest.mark.parametrize("path", [f"{MAPS}/a", f"{CUSTOM}/w", "/api/v1/namespaces/default", f"{PODS}/p"])
def test_a_precondition_that_is_set_counts_even_if_it_is_empty(path: str, preconditions: Object) -> None:
    async def work(world: World) -> None:
        await prepare(world)
        assert (await world.raw("DELETE", path, {"preconditions": preconditions})).status == 409
        assert (await world.raw("GET", path)).status == 200
        if path.startswith(PODS):
            options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions}
            eviction = {"metadata": {"name": "p"}, "deleteOptions": options}
            assert (await world.raw("POST", f"{path}/eviction", eviction)).status == 409

    run(work)


def test_in_the_query_an_empty_precondition_is_none() -> None:
    async def work(world: World) -> None:
        await prepare(world)
        assert (await world.raw("DELETE", f"{MAPS}/a?uid=x")).status == 409
        assert (await world.raw("DELETE", f"{MAPS}/a?uid=&resourceVersion=")).status == 200

    run(work)


@pytest.mark.parametrize("version", ["policy/v1", "policy/v1beta1"])
def test_pods_are_evicted_by_either_version(version: str) -> None:
    async def work(world: World) -> None:
        await prepare(world)
        eviction = {"apiVersion": version, "kind": "Eviction", "metadata": {"name": "p"}}
        other = await world.raw("POST", f"{PODS}/p/eviction", {**eviction, "apiVersion": "policy/v2"})
        assert other.status == 400
        assert (await world.raw("POST", f"{PODS}/p/eviction", eviction)).status == 201

    run(work)


def test_a_name_that_is_taken_beside_one_to_be_generated() -> None:
    async def work(world: World) -> None:
        await prepare(world)
        response = await world.raw("POST", MAPS, {"metadata": {"name": "a", "generateName": "b"}})
        assert status_of(response)[1].endswith("the server was not able to generate a unique name for the object")
        assert (response.status, response.headers["Retry-After"]) == (409, "1")

    run(work)


@pytest.mark.parametrize(
    ("path", "kept", "sent", "fields"),
    [
        (MAPS, {}, {"data": {}}, []),
        (MAPS, {}, {"binaryData": {}}, ["binaryData"]),
        (MAPS, {"data": {"a": "b"}}, {"data": {"a": "b"}, "binaryData": {}}, ["binaryData"]),
        (MAPS, {"data": {"a": "b"}}, {"data": {}}, ["data"]),
        (MAPS, {"data": {"a": "b"}}, {"data": {"a": "b"}, "binaryData": None}, []),
        (SECRETS, {}, {"data": {}}, ["data"]),
        (SECRETS, {}, {"data": None}, []),
        (SECRETS, {}, {}, []),
        (SECRETS, {"data": {"a": "Yg=="}}, {"data": {"a": "Yg=="}}, []),
    ],
)
def test_empty_is_not_absent_in_what_is_immutable(path: str, kept: Object, sent: Object, fields: list[str]) -> None:
    async def work(world: World) -> None:
        meta = {"metadata": {"name": "x"}, "immutable": True}
        assert (await world.raw("POST", path, {**meta, **kept})).status == 201
        response = await world.raw("PUT", f"{path}/x", {**meta, **sent})
        details = orjson.loads(body_of(response)).get("details", {})
        assert response.status == (422 if fields else 200)
        assert [(c["field"], c["message"]) for c in details.get("causes", ())] == [(name, SEALED) for name in fields]

    run(work)


def test_a_watch_does_not_go_on_from_a_page() -> None:
    async def work(world: World) -> None:
        code, message = status_of(await world.raw("GET", f"{MAPS}?watch=1&continue=abc"))
        assert (code, message.rpartition(": ")[2]) == (
            422,
            "resourceVersionMatch is forbidden when continue is provided",
        )

    run(work)


def test_what_runs_here_is_told_to_people_and_to_programs() -> None:
    async def work(world: World) -> None:
        await world.clock.sleep(75)
        text = body_of(await world.raw("GET", "/statusz", accept="text/plain")).decode()
        assert text.startswith("\napiserver statusz\nWarning: ")
        assert "\nUp: 0 hr 01 min 15 sec\n" in text
        kind = "g=config.k8s.io;v=v1beta1;as=Statusz"
        response = await world.raw("GET", "/statusz", accept=f"application/json;{kind}")
        assert response.headers["Content-Type"] == f"application/json;{kind}"
        status = orjson.loads(body_of(response))
        assert (status["binaryVersion"], status["uptimeSeconds"]) == ("1.36.0", 75)
        flags = body_of(await world.raw("GET", "/flagz")).decode()
        assert flags.startswith("\napiserver flagz\nWarning: ")
        code, message = status_of(await world.raw("GET", "/flagz", accept="application/json"))
        assert (code, message.rpartition(": ")[2]) == (406, "application/json, application/yaml, text/plain")

    run(work)


def test_outcomes_of_health_checks_are_counted() -> None:
    async def work(world: World) -> None:
        for _ in range(2):
            await world.raw("GET", "/readyz")
        await world.raw("GET", "/livez/ping")
        lines = body_of(await world.raw("GET", "/metrics/slis")).decode().splitlines()
        assert 'kubernetes_healthcheck{name="ping",type="livez"} 1' in lines
        assert 'kubernetes_healthchecks_total{name="ping",status="success",type="readyz"} 2' in lines
        assert not [line for line in lines if 'type="healthz"' in line]

    run(work)


def test_the_index_has_two_addresses() -> None:
    async def work(world: World) -> None:
        index = body_of(await world.raw("GET", "/"))
        assert body_of(await world.raw("GET", "/index.html")) == index
        assert {"/statusz", "/flagz", "/metrics/slis", "/openapi/v2"} <= set(orjson.loads(index)["paths"])

    run(work)


@pytest.mark.parametrize("how", ["created", "bound"])
def test_a_pod_has_the_topology_of_its_node(how: str) -> None:
    async def work(world: World) -> None:
        await prepare(world)
        labels = {"topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1", "other": "x"}
        node = {"metadata": {"name": "n", "labels": labels}}
        assert (await world.raw("POST", "/api/v1/nodes", node)).status == 201
        await world.clock.sleep(1)
        spec: Object = {"containers": [{"name": "c", "image": "i"}]}
        pod = {"metadata": {"name": "b", "labels": {"topology.kubernetes.io/zone": "mine", "a": "b"}}, "spec": spec}
        if how == "created":
            spec["nodeName"] = "n"
        assert (await world.raw("POST", PODS, pod)).status == 201
        if how == "bound":
            binding = {"metadata": {"name": "b"}, "target": {"kind": "Node", "name": "n"}}
            assert (await world.raw("POST", f"{PODS}/b/binding", binding)).status == 201
        found = orjson.loads(body_of(await world.raw("GET", f"{PODS}/b")))["metadata"]["labels"]
        assert found == {"topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1", "a": "b"}

    run(work)


def test_what_forbids_a_deletion_of_many_names_none() -> None:
    async def work(world: World) -> None:
        await prepare(world)
        policy = {
            "metadata": {"name": "keep"},
            "spec": {
                "matchConstraints": {
                    "resourceRules": [
                        {"apiGroups": [""], "apiVersions": ["*"], "operations": ["DELETE"], "resources": ["configmaps"]}
                    ]
                },
                "validations": [{"expression": "false"}],
            },
        }
        binding = {"metadata": {"name": "keep"}, "spec": {"policyName": "keep", "validationActions": ["Deny"]}}
        group = "/apis/admissionregistration.k8s.io/v1"
        await world.raw("POST", f"{group}/validatingadmissionpolicies", policy)
        await world.raw("POST", f"{group}/validatingadmissionpolicybindings", binding)
        await world.clock.sleep(2)
        _, one = status_of(await world.raw("DELETE", f"{MAPS}/a"))
        _, many = status_of(await world.raw("DELETE", MAPS))
        assert one.startswith('configmaps "a" is forbidden: ')
        assert many.startswith('configmaps "Unknown" is forbidden: ')

    run(work)


def test_gos_zero_time_is_null() -> None:
    async def work(world: World) -> None:
        event = {
            "metadata": {"name": "e", "namespace": "default"},
            "involvedObject": {"namespace": "default"},
            "firstTimestamp": "0999-01-01T00:00:00Z",
            "lastTimestamp": "0001-01-01T00:00:00Z",
        }
        response = await world.raw("POST", "/api/v1/namespaces/default/events", event)
        made = orjson.loads(body_of(response))
        assert (made["firstTimestamp"], made["lastTimestamp"]) == ("0999-01-01T00:00:00Z", None)

    run(work)


@pytest.mark.parametrize(("kind", "events"), [("PartialObjectMetadata", 1), ("PartialObjectMetadataList", 0)])
def test_a_watch_as_lists_of_metadata_ends_at_its_first_event(kind: str, events: int) -> None:
    async def work(world: World) -> None:
        await world.raw("POST", MAPS, {"metadata": {"name": "a"}})
        accept = f"application/json;as={kind};v=v1;g=meta.k8s.io"
        response = await world.admin._transport.send(  # the stream itself: a client would read objects of it
            Request("GET", MAPS, "watch=1&resourceVersion=0&timeoutSeconds=1", Headers({"accept": accept})), timeout=5
        )
        lines = (await response.read()).splitlines()
        assert (response.status, len(lines)) == (200, events)

    run(work)


@pytest.mark.parametrize("path", ["/api/v1/nodes", "/apis/rbac.authorization.k8s.io/v1/clusterroles"])
def test_what_is_of_the_whole_cluster_loses_a_namespace_of_its_body(path: str) -> None:
    async def work(world: World) -> None:
        response = await world.raw("POST", path, {"metadata": {"name": "n", "namespace": "x"}})
        assert (response.status, orjson.loads(body_of(response))["metadata"].get("namespace")) == (201, None)

    run(work)


@pytest.mark.parametrize("pod", ["p", "none"])
def test_an_eviction_is_of_the_pod_that_its_path_names(pod: str) -> None:
    async def work(world: World) -> None:
        await prepare(world)
        response = await world.raw("POST", f"{PODS}/{pod}/eviction", {"metadata": {"name": "other"}})
        assert status_of(response) == (400, "name in URL does not match name in Eviction object")

    run(work)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", 200),
        ("&resourceVersion=0", 200),
        ("&resourceVersion=5", 400),
        ("&resourceVersion=0&resourceVersionMatch=NotOlderThan", 422),
        ("&resourceVersionMatch=Exact", 422),
    ],
)
def test_a_page_goes_on_from_its_own_version_only(query: str, code: int) -> None:
    async def work(world: World) -> None:
        for name in "ab":
            await world.raw("POST", MAPS, {"metadata": {"name": name}})
        first = orjson.loads(body_of(await world.raw("GET", f"{MAPS}?limit=1")))
        token = first["metadata"]["continue"]
        assert (await world.raw("GET", f"{MAPS}?limit=1&continue={token}{query}")).status == code

    run(work)


BAD_LABEL = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is"
    " '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


@pytest.mark.parametrize(
    ("path", "more", "fields"),
    [
        ("/apis/batch/v1/namespaces/default/jobs", {}, ["metadata.labels", "spec.template.labels"]),
        ("/api/v1/namespaces/default/replicationcontrollers", {}, ["metadata.labels", "spec.template.labels"]),
        (DEPLOYMENTS, {"selector": {"matchLabels": {"x": "b!"}}}, ["spec.selector.matchLabels"]),
    ],
)
def test_labels_that_the_server_copies_are_told_of_once_a_place(path: str, more: Object, fields: list[str]) -> None:
    async def work(world: World) -> None:
        policy, containers = "Never" if "jobs" in path else "Always", [{"name": "c", "image": "i"}]
        template = {"metadata": {"labels": {"x": "b!"}}, "spec": {"restartPolicy": policy, "containers": containers}}
        response = await world.raw("POST", path, {"metadata": {"name": "j"}, "spec": {"template": template, **more}})
        causes = orjson.loads(body_of(response))["details"]["causes"]
        told = [cause["field"] for cause in causes if cause["message"].endswith(BAD_LABEL)]
        assert (response.status, sorted(set(told)), len(told)) == (422, fields, len(fields))

    run(work)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("metadata:\n  annotations:\n    a: b\n   bad: c\n", 3),
        ("a: b\n c: d\n", 2),
        ("a: b\n\tc: d", 2),
        ("a: [1,\nb: c\n", 2),
        ("a: b\n  - c\n  d: e\n", 3),
    ],
)
def test_what_is_no_yaml_names_the_line_that_gos_parser_names(text: str, line: int) -> None:
    async def work(world: World) -> None:
        media = "application/apply-patch+yaml"
        response = await world.raw("PATCH", f"{MAPS}/a?fieldManager=m", text.encode(), content_type=media)
        code, message = status_of(response)
        assert (code, f"error converting YAML to JSON: yaml: line {line}: " in message) == (400, True), message

    run(work)


def test_what_may_not_change_is_shown_as_upstreams_internal_type() -> None:
    async def work(world: World) -> None:
        await prepare(world)
        media, change = "application/merge-patch+json", {"spec": {"restartPolicy": "Never"}}
        code, message = status_of(await world.raw("PATCH", f"{PODS}/p", change, content_type=media))
        lines = '  "EphemeralContainers": null,\n- "RestartPolicy": "Always",\n+ "RestartPolicy": "Never",\n'
        assert (code, lines in message) == (422, True), message

    run(work)


@pytest.mark.parametrize(
    ("path", "is_valid"),
    [
        (".m['a']", True),
        (".m['a.b']", True),
        (".m['']", True),
        (".m['a'].x", True),
        (".m[a]", False),
        ('.m["a"]', False),
        (".m['a'", False),
        (".l[0]", False),
        ("m", False),
    ],
)
def test_a_rule_names_fields_and_keys_of_maps(path: str, is_valid: bool) -> None:
    text = {"type": "string"}
    values = {"type": "object", "properties": {"x": text}}
    spec = {
        "type": "object",
        "properties": {
            "m": {"type": "object", "additionalProperties": values},
            "l": {"type": "array", "items": text},
        },
        "x-kubernetes-validations": [{"rule": "true", "fieldPath": path}],
    }
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    names = {"kind": "Spoke", "plural": "spokes"}
    definition = {
        "metadata": {"name": "spokes.parts.test"},
        "spec": {"group": "parts.test", "names": names, "scope": "Namespaced", "versions": [version]},
    }

    async def work(world: World) -> None:
        response = await world.raw("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        code, message = status_of(response)
        told = message.endswith(f".fieldPath: Invalid value: {orjson.dumps(path).decode()}: must be a valid path")
        assert (code, told) == ((201, False) if is_valid else (422, True)), message

    run(work)
