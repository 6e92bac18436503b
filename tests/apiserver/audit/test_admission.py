"""What the audit log says of admission: webhooks and policies, and what these say themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.apiserver.apiworld import World, config_map, run
from tests.apiserver.audit.test_record import config, events
from tests.apiserver.test_webhooks import MUTATING, VALIDATING, Hook, add, patch, register, webhook
from tiphys.api.object import Object
from tiphys.apiserver.webhooks.client import CallFailed

CONFIG_MAPS = "/api/v1/namespaces/a/configmaps"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
RULES = {"resources": [{"resources": ["configmaps"]}], "namespaces": ["a"], "verbs": ["create"]}


def told(tmp_path: Path) -> dict[str, str]:
    """The annotations of the last request, without those of authorization."""
    annotations: dict[str, str] = events(tmp_path)[-1]["annotations"]
    return {key: value for key, value in annotations.items() if not key.startswith("authorization.")}


def answer(request: Object) -> Object:
    match request["hook"]:
        case "broken":
            raise CallFailed("EOF")
        case "changes":
            return {**patch(add("/data/b", "<2>")), "auditAnnotations": {"why": "as it should"}}
    return {}


async def three_hooks(world: World) -> None:
    await world.namespace("a")
    Hook(world, answer)
    broken = webhook("broken", failurePolicy="Ignore")
    await register(world, MUTATING, webhook("first", reinvocationPolicy="IfNeeded"), broken, webhook("changes"))
    await register(world, VALIDATING, webhook("quiet"), broken)
    await world.json("POST", CONFIG_MAPS, config_map("x"))


def test_webhooks_are_annotated_as_upstream_has_it(tmp_path: Path) -> None:
    run(three_hooks, config(tmp_path, {"level": "Request", **RULES}))
    annotations = told(tmp_path)

    def mutation(name: str, *, mutated: bool) -> str:
        who = f'"configuration":"hooks","webhook":"{name}.example.com"'
        return f'{{{who},"mutated":{str(mutated).lower()}}}'

    change = r'[{"op":"add","path":"/data/b","value":"\u003c2\u003e"}]'
    head = '{"configuration":"hooks","webhook":"changes.example.com"'
    assert annotations == {
        "mutation.webhook.admission.k8s.io/round_0_index_0": mutation("first", mutated=False),
        "mutation.webhook.admission.k8s.io/round_0_index_1": mutation("broken", mutated=False),
        "failed-open.mutation.webhook.admission.k8s.io/round_0_index_1": "broken.example.com",
        "mutation.webhook.admission.k8s.io/round_0_index_2": mutation("changes", mutated=True),
        "patch.webhook.admission.k8s.io/round_0_index_2": f'{head},"patch":{change},"patchType":"JSONPatch"}}',
        "changes.example.com/why": "as it should",
        "mutation.webhook.admission.k8s.io/round_1_index_0": mutation("first", mutated=False),
        "failed-open.validating.webhook.admission.k8s.io/round_0_index_1": "broken.example.com",
    }


def test_a_patch_is_not_told_where_bodies_are_not(tmp_path: Path) -> None:
    run(three_hooks, config(tmp_path, {"level": "Metadata", **RULES}))
    annotations = told(tmp_path)
    assert "mutation.webhook.admission.k8s.io/round_0_index_2" in annotations
    assert not [key for key in annotations if key.startswith("patch.")]


def policy(name: str, *validations: Object, **spec: Any) -> Object:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}
    return {
        "metadata": {"name": name},
        "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": list(validations), **spec},
    }


def test_policies_are_annotated_as_upstream_has_it(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        notes = [
            {"key": "who", "valueExpression": "' by ' + object.metadata.name + ' '"},
            {"key": "nothing", "valueExpression": "object.metadata.name == 'y' ? 'y' : ''"},
        ]
        checks = ({"expression": "true"}, {"expression": "object.metadata.name != 'x'", "message": "not <x>"})
        defined = await world.raw("POST", POLICIES, policy("p", *checks, auditAnnotations=notes))
        assert defined.status == 201, defined.body
        for name in ("b1", "b2"):
            spec = {"policyName": "p", "validationActions": ["Warn", "Audit"]}
            await world.json(
                "POST", POLICIES.replace("policies", "policybindings"), {"metadata": {"name": name}, "spec": spec}
            )
        await world.settle()
        made = await world.raw("POST", CONFIG_MAPS, config_map("x"))
        assert made.status == 201

    run(work, config(tmp_path, {"level": "Metadata", **RULES}))
    annotations = told(tmp_path)
    failure = json.loads(annotations.pop("validation.policy.admission.k8s.io/validation_failure"))
    assert annotations == {"p/who": "by x"}
    assert failure == [
        {
            "message": "not <x>",
            "policy": "p",
            "binding": "b1",
            "expressionIndex": 1,
            "validationActions": ["Warn", "Audit"],
        }
    ]
